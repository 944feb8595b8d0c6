"""Pictures that are encoded one after the other: the same features, and the same answer, as all at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from backends.engines.one_by_one import encode_alone
from backends.placement.pictures import families
from tests.support.real_trees import CLIP, SIGLIP, TEXT, VISION
from tests.support.real_trees import families as small_families

_QWEN_TEXT = {**TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6]}}
_GLM_VISION = {
    "depth": 2, "hidden_size": 64, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 128,
    "image_size": 64, "patch_size": 14,
}  # fmt: skip
_QWEN3_VISION = {
    "depth": 3, "hidden_size": 64, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 128,
    "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
}  # fmt: skip
_EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_routed_experts": 4,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "shared_expert_intermediate_size": 32, "decoder_sparse_step": 1,
}  # fmt: skip
# Families whose rope takes a part of each head.
_PART = {"rope_type": "default", "mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5}
_INTERNVL_VISION = {**VISION, "image_size": [32, 32], "patch_size": [8, 8]}


def _configs() -> dict[str, Any]:
    """A tiny config of every family."""
    t = transformers
    small = {name: getattr(t, f"{kind}Config")(**given) for name, (kind, given) in small_families().items()}
    made = {config.model_type: config for config in small.values()}
    llama, qwen2 = {"model_type": "llama", **TEXT}, {"model_type": "qwen2", **TEXT}
    aya = {"vision_config": SIGLIP, "downsample_factor": 2, "adapter_layer_norm_eps": 1e-6}
    linear = ["linear_attention", "full_attention", "linear_attention"]
    made["gemma3"].mm_tokens_per_image = 4
    return made | {
        "llava": t.LlavaConfig(vision_config=CLIP, text_config=llama, vision_feature_layer=-2),
        "llava_next": t.LlavaNextConfig(
            vision_config=CLIP, text_config=llama, image_grid_pinpoints=[[32, 64], [64, 64]]
        ),
        "llava_onevision": t.LlavaOnevisionConfig(
            vision_config=SIGLIP, text_config=qwen2, image_grid_pinpoints=[[32, 64], [64, 64]]
        ),
        "aya_vision": t.AyaVisionConfig(text_config={"model_type": "cohere2", **TEXT}, **aya),
        "cohere2_vision": t.Cohere2VisionConfig(
            vision_config=SIGLIP,
            text_config={"model_type": "cohere2", **TEXT},
            alignment_intermediate_size=64,
        ),
        "idefics2": t.Idefics2Config(
            vision_config=VISION,
            text_config={"model_type": "mistral", **TEXT},
            perceiver_config={"resampler_n_latents": 4, "resampler_depth": 1, "hidden_size": 64,
                              "resampler_n_heads": 2, "resampler_head_dim": 32, "num_key_value_heads": 1},
        ),
        "qianfan_ocr": t.QianfanOCRConfig(text_config=qwen2, vision_config=_INTERNVL_VISION),
        "paddleocr_vl": t.PaddleOCRVLConfig(
            text_config={**TEXT, "head_dim": 32, "rope_parameters": _QWEN_TEXT["rope_parameters"]},
            vision_config={**VISION, "image_size": 56, "patch_size": 14},
        ),
        "qwen3_vl": t.Qwen3VLConfig(
            text_config={**_QWEN_TEXT, "head_dim": 32}, vision_config=_QWEN3_VISION
        ),
        "qwen3_vl_moe": t.Qwen3VLMoeConfig(
            text_config={**_QWEN_TEXT, "head_dim": 32, **_EXPERTS}, vision_config=_QWEN3_VISION
        ),
        "qwen3_5": t.Qwen3_5Config(
            text_config={**TEXT, "head_dim": 32, "layer_types": linear, "rope_parameters": _PART},
            vision_config=_QWEN3_VISION,
        ),
        "qwen3_5_moe": t.Qwen3_5MoeConfig(
            text_config={
                **TEXT, "head_dim": 32, "layer_types": linear, "rope_parameters": _PART, **_EXPERTS,
            },
            vision_config=_QWEN3_VISION,
        ),
        "glm4v": t.Glm4vConfig(text_config={**TEXT, "rope_parameters": _PART}, vision_config=_GLM_VISION),
        "glm46v": t.Glm46VConfig(
            text_config={"model_type": "glm4v_text", **TEXT, "rope_parameters": _PART},
            vision_config={"model_type": "glm4v_vision", **_GLM_VISION},
        ),
        "glm4v_moe": t.Glm4vMoeConfig(
            text_config={**TEXT, "rope_parameters": _PART, **_EXPERTS}, vision_config=_GLM_VISION
        ),
    }  # fmt: skip


_IDEFICS = ("idefics2", "idefics3", "smolvlm")
_TILES = ("llava_next", "llava_onevision")


def _pictures(config: Any, model: Any) -> dict[str, torch.Tensor]:
    """What a processor makes of three pictures, of sizes of their own where the family allows it."""
    if "image_grid_thw" in model.model.get_image_features.__wrapped__.__code__.co_varnames or hasattr(
        model.model, "visual"
    ):
        vision = config.vision_config
        grid = torch.tensor([[1, 4, 4], [1, 2, 6], [1, 4, 2]])
        patch = (3, vision.patch_size, vision.patch_size)
        if config.model_type != "paddleocr_vl":
            patch = (3 * vision.temporal_patch_size * vision.patch_size**2,)
        return {"pixel_values": torch.randn(int(grid.prod(-1).sum()), *patch), "image_grid_thw": grid}
    if config.model_type in _IDEFICS:
        mask = torch.ones(1, 3, 32, 32, dtype=torch.long)
        return {"pixel_values": torch.randn(1, 3, 3, 32, 32), "pixel_attention_mask": mask}
    if config.model_type in _TILES:
        sizes = torch.tensor([[32, 64], [64, 64], [60, 50]])
        return {"pixel_values": torch.randn(3, 5, 3, 32, 32), "image_sizes": sizes}
    return {"pixel_values": torch.randn(3, 3, 32, 32)}


def _flat(features: Any) -> torch.Tensor:
    parts = [features] if isinstance(features, torch.Tensor) else features
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def _built(family: str) -> Any:
    config = _configs()[family]
    for number, name in enumerate(
        ("image", "video", "vision_start", "vision_end", "image_start", "image_end")
    ):
        setattr(config, f"{name}_token_id", 9 + number)
    torch.manual_seed(3)
    kinds = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return getattr(transformers, kinds[family])(config).eval()


@pytest.mark.parametrize("family", families())
@torch.inference_mode()
def test_pictures_one_by_one_give_what_they_give_together(family: str) -> None:
    model = _built(family)
    pictures = _pictures(model.config, model)
    together = model.model.get_image_features(**pictures, return_dict=True)
    ids = [5]
    for part in together.pooler_output:
        ids += [11, *[9] * part.reshape(-1, part.shape[-1]).shape[0], 12]
    ids = torch.tensor([[*ids, 6, 7]])
    types = {"mm_token_type_ids": (ids == 9).int()}
    if family not in ("gemma3", "paligemma") and "image_grid_thw" not in pictures:
        types = {}
    said = model(input_ids=ids, **pictures, **types).logits

    seen: list[int] = []
    encode_alone(model)
    tower = getattr(model.model, "visual", None) or getattr(model.model, "vision_tower", None)
    (tower or model.model.vision_model).register_forward_pre_hook(lambda *_: seen.append(1))
    alone = model.model.get_image_features(**pictures, return_dict=True)

    assert len(seen) == 3, "the tower takes a picture at a time"
    torch.testing.assert_close(
        _flat(alone.pooler_output), _flat(together.pooler_output), atol=1e-5, rtol=1e-5
    )
    assert alone.get("last_hidden_state") is None, "nothing else is kept of each picture"
    torch.testing.assert_close(model(input_ids=ids, **pictures, **types).logits, said, atol=1e-5, rtol=1e-5)
