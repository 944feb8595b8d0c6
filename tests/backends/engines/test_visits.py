"""How much of a model a pass is said to read from the disk: that decides whether the system keeps it."""

from __future__ import annotations

from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from backends.engines.arrangement import Arrangement
from backends.engines.offload import OffloadFolder
from backends.engines.placing import units
from backends.engines.reading import Reader

IDS = torch.arange(10, 30)[None]
SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 320, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
PARTS = (
    "model.rotary_emb",
    "model.embed_tokens",
    "model.layers.0",
    "model.layers.1",
    "model.norm",
    "lm_head",
)
ON_DISK = units(((part, "cpu" if part == "model.rotary_emb" else "disk") for part in PARTS), None)
# Share of a mixture's experts that one token visits.
FAMILIES: dict[str, tuple[str, dict[str, Any], float]] = {
    "every weight is read": ("Llama", {}, 1),
    "the head is the embedding": ("Llama", {"tie_word_embeddings": True}, 1),
    "two experts of eight": ("Qwen3Moe", EXPERTS, 2 / 8),
    "more than there are": ("Qwen3Moe", EXPERTS | {"num_experts_per_tok": 8}, 1),
}


def arranged(model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let all weights rest on the disk; the bytes that a pass is expected to read."""
    expected: list[int] = []
    monkeypatch.setattr(Reader, "expect", lambda _, nbytes: expected.append(nbytes))
    in_ram = Arrangement(model, units(((part, "cpu") for part in PARTS), None), None)
    in_ram.rearrange(ON_DISK, OffloadFolder(folder), lambda _: 1 << 40, lambda _: None, Flag())
    return sum(expected)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_what_one_token_reads(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, changes, share = FAMILIES[family]
    config = getattr(transformers, f"{kind}Config")(**(SIZES | changes))
    torch.manual_seed(3)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    answer = model(input_ids=IDS).logits
    weights = dict(model.named_parameters(remove_duplicate=False))
    experts = sum(one.nbytes for name, one in weights.items() if ".experts." in name)
    rows = sum(one.weight.nbytes for one in model.modules() if isinstance(one, nn.Embedding))
    assert rows > 0
    assert (experts > 0) == (kind != "Llama")

    found = arranged(model, tmp_path, monkeypatch)

    whole = sum(one.nbytes for one in weights.values()) - rows - experts
    assert found == whole + round(experts * share)
    assert all(one.device.type == "meta" for one in model.parameters())
    assert torch.equal(model(input_ids=IDS).logits, answer)
