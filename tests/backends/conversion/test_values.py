"""Every tensor of a converted file is the checkpoint's, within the rounding of its type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, quants
from safetensors.torch import load_file

from backends.conversion.types import Layout, WeightType
from backends.models.gguf_header import read_gguf_header
from backends.models.identify import identify
from tests.backends.conversion.conftest import Convert, Folder

NAMES = ("starter", "llama", "llama3", "mistral", "qwen2", "vicuna", "llava", "llava-mistral", "llava-qwen2")
PARTS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
EYES = {
    "ln1": "layer_norm1", "ln2": "layer_norm2", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
}  # fmt: skip


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {key: value.float().numpy() for key, value in load_file(folder / "model.safetensors").items()}


def text_name(name: str) -> str:
    fixed = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
    if name in fixed:
        return fixed[name]
    _, layer, part, ending = name.split(".")
    return f"layers.{layer}.{PARTS[part]}.{ending}"


def in_turns(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Row by row, written out: the way that llama.cpp's Llama wants q and k."""
    order = [
        head * head_dim + half * head_dim // 2 + pair
        for head in range(len(rows) // head_dim)
        for pair in range(head_dim // 2)
        for half in range(2)
    ]
    return rows[order]


def check(read: Any, expected: np.ndarray) -> None:
    """Compare one tensor of a file with the numbers that it was made from."""
    found = quants.dequantize(read.data, read.tensor_type).reshape(expected.shape)
    worst = np.abs(found - expected)
    kind = read.tensor_type.name
    if kind == "F32":
        assert np.array_equal(found, expected)
    elif kind == "F16":
        assert (worst <= np.abs(expected) * 2**-11 + 2**-25).all()
    else:
        largest = np.abs(expected.reshape(-1, 32)).max(axis=1, keepdims=True)
        # Half a step; of 4 bits a whole one, where the largest number's opposite is as large.
        step = largest / 127 * 0.51 if kind == "Q8_0" else largest / 8 * 1.01
        assert (worst.reshape(-1, 32) <= step + largest * 2**-10).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", list(WeightType))
def test_the_language_model(checkpoint: Folder, converted: Convert, name: str, kind: WeightType) -> None:
    source = weights(checkpoint(name))
    reader = GGUFReader(converted(name, kind=kind).text)
    base = next(key for key in source if key.endswith("embed_tokens.weight")).removesuffix(
        "embed_tokens.weight"
    )
    family = reader.get_field("general.architecture").contents()
    head_dim = reader.get_field(f"{family}.attention.key_length").contents()
    used = set()
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        if tensor.name == "output.weight":
            key = next(key for key in source if key.endswith("lm_head.weight"))
        else:
            key = base + text_name(tensor.name)
        expected = source[key]
        if family == "llama" and any(f".{part}." in tensor.name for part in ("attn_q", "attn_k")):
            expected = in_turns(expected, head_dim)
        check(tensor, expected)
        if expected.ndim == 1:
            assert tensor.tensor_type.name == "F32"
        used.add(key)
    assert used == {key for key in source if "vision" not in key and "multi_modal" not in key}


@pytest.mark.parametrize("name", ["starter", "llava", "llava-qwen2"])
@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("kind", [WeightType.F32, WeightType.F16])
def test_the_picture_part(
    checkpoint: Folder, converted: Convert, name: str, layout: Layout, kind: WeightType
) -> None:
    source = weights(checkpoint(name))
    mmproj = converted(name, layout=layout, vision_kind=kind).mmproj
    assert mmproj is not None
    tower = "vision_tower.vision_model."
    fixed = {
        "v.class_embd": f"{tower}embeddings.class_embedding",
        "v.patch_embd.weight": f"{tower}embeddings.patch_embedding.weight",
        "v.position_embd.weight": f"{tower}embeddings.position_embedding.weight",
        "v.pre_ln.weight": f"{tower}pre_layrnorm.weight",
        "v.pre_ln.bias": f"{tower}pre_layrnorm.bias",
        "mm.0.weight": "multi_modal_projector.linear_1.weight",
        "mm.0.bias": "multi_modal_projector.linear_1.bias",
        "mm.2.weight": "multi_modal_projector.linear_2.weight",
        "mm.2.bias": "multi_modal_projector.linear_2.bias",
    }
    names = set()
    for tensor in GGUFReader(mmproj).tensors:
        if tensor.name in fixed:
            key = fixed[tensor.name]
        else:
            _, _, layer, part, ending = tensor.name.split(".")
            key = f"{tower}encoder.layers.{layer}.{EYES[part]}.{ending}"
        expected = source[key]
        if tensor.name == "v.position_embd.weight":
            later = [*range(1, len(expected))]
            chosen = {Layout.PLAIN: [0, *later], Layout.ROTATED: [*later, 0], Layout.NO_CLASS: later}
            expected = expected[chosen[layout]]
        check(tensor, expected)
        names.add(tensor.name)
    assert fixed.keys() - names == ({"v.class_embd"} if layout is Layout.NO_CLASS else set())
    blocks = {name.split(".")[2] for name in names if ".blk." in name}
    # All of them: the library stops before the last one by itself.
    assert len(blocks) == len(
        {key.split("layers.")[1].split(".")[0] for key in source if "encoder.layers" in key}
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", list(WeightType))
def test_both_readers_see_the_same_file(converted: Convert, name: str, kind: WeightType) -> None:
    path = converted(name, kind=kind).text
    header, reader = read_gguf_header(path), GGUFReader(path)
    assert header.complete
    ours = {tensor.name: (tensor.dtype, tensor.shape) for tensor in header.tensors}
    theirs = {
        tensor.name: (tensor.tensor_type.name.lower(), tuple(int(size) for size in tensor.shape[::-1]))
        for tensor in reader.tensors
    }
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_model_has_the_figures_of_its_checkpoint(
    checkpoint: Folder, converted: Convert, name: str
) -> None:
    before, after = identify(checkpoint(name)), identify(converted(name).text)
    assert after.format == "gguf"
    assert after.dtype == "q8_0"
    assert (
        after.text.hidden,
        after.text.layers,
        after.text.heads,
        after.text.kv_heads,
        after.text.head_dim,
    ) == (
        before.text.hidden,
        before.text.layers,
        before.text.heads,
        before.text.kv_heads,
        before.text.head_dim,
    )
    assert after.text.vocab == before.text.vocab
    assert after.gguf is not None
    assert after.gguf.chat_template == (name != "vicuna")
