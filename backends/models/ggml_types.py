"""The tensor types of GGUF files: how many bytes a block of weights takes, and what mixtures are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class GgmlType:
    """`block` weights of a row are stored together in `nbytes` bytes."""

    name: str
    block: int
    nbytes: int


# ggml's number of a type -> the type (ggml.h and ggml-common.h). Missing numbers were given up.
TYPES: Mapping[int, GgmlType] = MappingProxyType(
    {
        number: GgmlType(name, block, nbytes)
        for number, name, block, nbytes in (
            (0, "f32", 1, 4),
            (1, "f16", 1, 2),
            (2, "q4_0", 32, 18),
            (3, "q4_1", 32, 20),
            (6, "q5_0", 32, 22),
            (7, "q5_1", 32, 24),
            (8, "q8_0", 32, 34),
            (9, "q8_1", 32, 40),
            (10, "q2_k", 256, 84),
            (11, "q3_k", 256, 110),
            (12, "q4_k", 256, 144),
            (13, "q5_k", 256, 176),
            (14, "q6_k", 256, 210),
            (15, "q8_k", 256, 292),
            (16, "iq2_xxs", 256, 66),
            (17, "iq2_xs", 256, 74),
            (18, "iq3_xxs", 256, 98),
            (19, "iq1_s", 256, 50),
            (20, "iq4_nl", 32, 18),
            (21, "iq3_s", 256, 110),
            (22, "iq2_s", 256, 82),
            (23, "iq4_xs", 256, 136),
            (24, "i8", 1, 1),
            (25, "i16", 1, 2),
            (26, "i32", 1, 4),
            (27, "i64", 1, 8),
            (28, "f64", 1, 8),
            (29, "iq1_m", 256, 56),
            (30, "bf16", 1, 2),
            (34, "tq1_0", 256, 54),
            (35, "tq2_0", 256, 66),
            (39, "mxfp4", 32, 17),
            (40, "nvfp4", 64, 36),
            (41, "q1_0", 128, 18),
        )
    }
)

# llama.cpp's number of a mixture (general.file_type) -> its name (llama.h).
FILE_TYPES: Mapping[int, str] = MappingProxyType(
    {
        **dict(enumerate(("f32", "f16", "q4_0", "q4_1"))),
        **dict(enumerate(("q8_0", "q5_0", "q5_1", "q2_k", "q3_k_s", "q3_k_m", "q3_k_l"), 7)),
        **dict(enumerate(("q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"), 14)),
        **dict(enumerate(("iq2_xxs", "iq2_xs", "q2_k_s", "iq3_xs", "iq3_xxs", "iq1_s", "iq4_nl"), 19)),
        **dict(enumerate(("iq3_s", "iq3_m", "iq2_s", "iq2_m", "iq4_xs", "iq1_m", "bf16"), 26)),
        **dict(enumerate(("tq1_0", "tq2_0", "mxfp4_moe", "nvfp4", "q1_0"), 36)),
    }
)
