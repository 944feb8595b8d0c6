"""Random-weight LLaVA checkpoints, big enough to measure on: written once into a folder, then reused.

python -m benchmarks.models FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STARTER = Path(__file__).parents[1] / "assets" / "starter"
_DONE = "complete.json"


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a LLaVA with a CLIP-B tower at 336 pixels (576 tokens a picture)."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    vocab: int = 32_000


HALF_BILLION = Shape("llava-0.5b", hidden=1024, intermediate=2816, layers=26, heads=16)
TWO_GB = Shape("llava-2gb", hidden=2048, intermediate=5632, layers=16, heads=16)


def checkpoint(shape: Shape, folder: Path) -> Path:
    """The folder of a bf16 checkpoint of `shape` under `folder`, written if it is not there yet."""
    target = folder / shape.name
    if not (target / _DONE).exists():
        target.mkdir(parents=True, exist_ok=True)
        parameters = _write(shape, target)
        (target / _DONE).write_text(json.dumps({"parameters": parameters}), encoding="utf-8")
    return target


def parameters(folder: Path) -> int:
    """Number of parameters of a checkpoint written here."""
    document: dict[str, int] = json.loads((folder / _DONE).read_text(encoding="utf-8"))
    return document["parameters"]


def _write(shape: Shape, target: Path) -> int:
    import torch
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            image_size=336,
            patch_size=14,
        ),
        text_config=LlamaConfig(
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            vocab_size=shape.vocab,
            max_position_embeddings=4096,
            eos_token_id=tokenizer.eos_token_id,
        ),
        image_token_id=image_token,
        image_seq_length=576,
    )
    torch.manual_seed(0)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(previous)
    with torch.no_grad():  # answers of words that the tokenizer knows, which never end by themselves
        model.lm_head.weight[len(tokenizer) :] = 0
        model.lm_head.weight[tokenizer.all_special_ids] = 0
    model.save_pretrained(target, max_shard_size="1GB")
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(STARTER / "chat_template.jinja").read_text(encoding="utf-8"),
    ).save_pretrained(target)
    return sum(parameter.numel() for parameter in model.parameters())


def main(argv: list[str], say: Callable[[str], None] = print) -> None:
    folder = Path(argv[0])
    for shape in (HALF_BILLION, TWO_GB):
        path = checkpoint(shape, folder)
        say(f"{path}: {parameters(path):,} parameters")


if __name__ == "__main__":
    main(sys.argv[1:])
