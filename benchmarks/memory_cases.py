"""The cases of `benchmarks.memory_cpu`: shapes, contexts and pictures, and prompts that fill them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from backends.messages import ImagePart
from benchmarks.models import STARTER, Shape

_WORDS = "a red circle stands left of two small blue squares and a large green triangle "

LLAMA_01 = Shape("llama-0.1b", 512, 1408, 12, 8, family="llama")
LLAMA_05 = Shape("llama-0.5b", 1024, 2816, 28, 16, family="llama", kv_heads=4)
LLAMA_1 = Shape("llama-1.1b", 2048, 5632, 22, 32, family="llama", kv_heads=4)
LLAMA_2 = Shape("llama-2b", 2560, 6912, 24, 32, family="llama", kv_heads=8)
LLAVA_02 = Shape("llava-0.2b", 512, 1408, 12, 8)
LLAVA_05 = Shape("llava-0.5b", 1024, 2816, 26, 16)
LLAVA_1 = Shape("llava-1b", 2048, 5632, 16, 16)
DYNAMIC_02 = Shape("dynamic-0.2b", 512, 1408, 12, 8, family="dynamic", kv_heads=2)
DYNAMIC_1 = Shape("dynamic-0.9b", 1536, 4096, 24, 16, family="dynamic", kv_heads=4, side=756, tied=True)


@dataclass(frozen=True, slots=True)
class Case:
    """One run. `disk` is how many of the last decoder layers stay on the disk."""

    shape: Shape
    precision: str
    context: int
    images: int = 0
    disk: int = 0

    @property
    def name(self) -> str:
        """What `--only` takes."""
        parts = [self.shape.name, self.precision, str(self.context), f"{self.images}p"]
        return "-".join(parts + ([f"disk{self.disk}"] if self.disk else []))


CASES = (
    *(Case(LLAMA_01, precision, context) for precision in ("bf16", "fp32") for context in (512, 4096)),
    *(Case(LLAMA_05, precision, 2048) for precision in ("bf16", "fp32")),
    Case(LLAMA_05, "bf16", 4096),
    Case(LLAMA_1, "bf16", 1024),
    Case(LLAMA_1, "fp32", 512),
    # With less on the disk than a limit leaves free, the system keeps it in RAM: nothing would be read.
    Case(LLAMA_1, "fp32", 512, disk=18),
    Case(LLAMA_1, "bf16", 1024, disk=11),
    Case(LLAMA_2, "bf16", 512),
    Case(LLAMA_2, "bf16", 512, disk=16),
    *(Case(LLAVA_02, precision, 2048, images=2) for precision in ("bf16", "fp32")),
    Case(LLAVA_02, "fp32", 4096, images=4),
    *(Case(LLAVA_05, precision, 1024, images=1) for precision in ("bf16", "fp32")),
    Case(LLAVA_05, "bf16", 4096, images=4),
    Case(LLAVA_1, "fp32", 1024, images=1, disk=12),
    Case(LLAVA_1, "bf16", 1024, images=1),
    Case(LLAVA_1, "bf16", 1024, images=1, disk=14),
    *(Case(DYNAMIC_02, precision, 2048, images=4) for precision in ("bf16", "fp32")),
    Case(DYNAMIC_1, "bf16", 2048, images=2),
    Case(DYNAMIC_1, "fp32", 1024, images=1),
    Case(DYNAMIC_1, "bf16", 1024, images=0, disk=20),
)


def words(count: int, tokens_per_word: float) -> str:
    """About `count` tokens of text, never more."""
    found = _WORDS.split()
    return " ".join(found[index % len(found)] for index in range(max(1, int(count / tokens_per_word))))


def tokens_per_word() -> float:
    """Of the tokenizer that all these checkpoints share."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(STARTER / "tokenizer.json"))
    text = " ".join(_WORDS.split() * 20)
    return len(tokenizer.encode(text).ids) / len(text.split())


def pictures(case: Case, folder: Path, salt: str) -> tuple[ImagePart, ...]:
    """New pictures (nothing of them can be kept from before) of the size that fills the model's limit."""
    side = case.shape.side if case.shape.family == "dynamic" else 336
    found: list[ImagePart] = []
    for number in range(case.images):
        path = folder / f"{case.name} {salt} {number}.png"
        Image.effect_noise((side, side), 10 + number).convert("RGB").save(path)
        found.append(ImagePart(path, hashlib.sha256(str(path).encode()).hexdigest(), side, side))
    return tuple(found)
