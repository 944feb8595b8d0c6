"""Random-weight checkpoints, big enough to measure on: written once into a folder, then reused.

python -m benchmarks.models FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

STARTER = Path(__file__).parents[1] / "assets" / "starter"
_DONE = "complete.json"
# Standard deviation of usual initialisations, and how many different numbers a checkpoint has.
_SPREAD, _BLOCK = 0.02, 1 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model. A `llava` has a CLIP-B tower at 336 pixels (576 tokens a picture).

    `llama` has no eyes; `dynamic` is PaddleOCR-VL, Qwen2-VL's principle with a processor that needs Pillow
    only: a quarter as many tokens as patches, of as many patches as the picture has, up to
    `side` x `side` pixels. `kv_heads` is None for as many as `heads`; `tied` shares embedding and head.
    """

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    vocab: int = 32_000
    family: Literal["llava", "llama", "dynamic"] = "llava"
    kv_heads: int | None = None
    context: int = 4096
    side: int = 504
    tied: bool = False


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
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(STARTER, extra_special_tokens={"image_token": "<image>"})
    makers = {"llava": _llava, "llama": _llama, "dynamic": _dynamic}
    with torch.device("meta"):
        model, processor = makers[shape.family](shape, tokenizer)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    model.tie_weights()
    _fill(model)
    with torch.no_grad():  # answers of words that the tokenizer knows, which never end by themselves
        head = model.get_output_embeddings()
        head.weight[len(tokenizer) :] = 0
        head.weight[tokenizer.all_special_ids] = 0
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    # PaddleOCR-VL's published names are another layout that is only turned into this one on loading.
    model.save_pretrained(target, max_shard_size="1GB", save_original_format=shape.family != "dynamic")
    processor.save_pretrained(target)
    return sum(parameter.numel() for parameter in model.parameters())


def _fill(model: Any) -> None:  # noqa: ANN401 - a torch module
    """Random matrices from one block of numbers (drawing billions takes minutes), norms of one, no bias."""
    import torch

    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    block = (block * _SPREAD).to(torch.bfloat16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                flat = parameter.view(-1)
                for start in range(0, flat.numel(), _BLOCK):
                    part = flat[start : start + _BLOCK]
                    part.copy_(block[: part.numel()])


def _text_sizes(shape: Shape, tokenizer: Any) -> dict[str, Any]:  # noqa: ANN401 - a transformers tokenizer
    return {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "head_dim": shape.hidden // shape.heads,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": shape.tied,
    }


def _template() -> str:
    return (STARTER / "chat_template.jinja").read_text(encoding="utf-8")


def _llama(shape: Shape, tokenizer: Any) -> tuple[Any, Any]:  # noqa: ANN401
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer.chat_template = _template()
    return LlamaForCausalLM(LlamaConfig(**_text_sizes(shape, tokenizer))), tokenizer


def _llava(shape: Shape, tokenizer: Any) -> tuple[Any, Any]:  # noqa: ANN401
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            image_size=336,
            patch_size=14,
        ),
        text_config=LlamaConfig(**_text_sizes(shape, tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=576,
        tie_word_embeddings=shape.tied,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_template(),
    )
    return LlavaForConditionalGeneration(config), processor


def _dynamic(shape: Shape, tokenizer: Any) -> tuple[Any, Any]:  # noqa: ANN401
    from transformers import PaddleOCRVLConfig, PaddleOCRVLForConditionalGeneration, PaddleOCRVLProcessor
    from transformers.models.paddleocr_vl.image_processing_pil_paddleocr_vl import (
        PaddleOCRVLImageProcessorPil,
    )

    sizes = _text_sizes(shape, tokenizer)
    half = sizes["head_dim"] // 2
    sections = [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8]  # time, height, width: 2 to 3 to 3
    sizes["rope_parameters"] = {"rope_type": "default", "rope_theta": 500_000.0, "mrope_section": sections}
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = PaddleOCRVLConfig(
        text_config=sizes,
        vision_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 384,
            "patch_size": 14,
        },
        image_token_id=image,
        video_token_id=shape.vocab - 1,
        vision_start_token_id=shape.vocab - 2,
        vision_end_token_id=shape.vocab - 3,
        tie_word_embeddings=shape.tied,
    )
    processor = PaddleOCRVLProcessor(
        image_processor=PaddleOCRVLImageProcessorPil(
            size={"shortest_edge": 56 * 56, "longest_edge": shape.side**2}
        ),
        tokenizer=tokenizer,
        chat_template=_template(),
    )
    return PaddleOCRVLForConditionalGeneration(config), processor


def main(argv: list[str], say: Callable[[str], None] = print) -> None:
    folder = Path(argv[0])
    for shape in (HALF_BILLION, TWO_GB):
        path = checkpoint(shape, folder)
        say(f"{path}: {parameters(path):,} parameters")


if __name__ == "__main__":
    main(sys.argv[1:])
