"""The sizes of a CogVLM, as transformers keeps them."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


class CogVLMVisionConfig(PreTrainedConfig):
    """The vision tower (EVA2-CLIP): `num_positions` counts the patches and the class token."""

    model_type = "cogvlm_vision"
    base_config_key = "vision_config"

    hidden_size: int = 1792
    intermediate_size: int = 15360
    num_hidden_layers: int = 63
    num_heads: int = 16
    num_positions: int = 1226
    image_size: int = 490
    patch_size: int = 14
    in_channels: int = 3
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    dropout_prob: float = 0.0


class CogVLMConfig(PreTrainedConfig):
    """The whole model.

    `num_key_value_heads` is smaller than `num_attention_heads` in CogVLM2; `vision_qkv_bias` tells whether
    the visual expert's projection has a bias, `spatial_merge_size` is the stride of the convolution behind
    the tower (1: there is none). `image_token_id` stands for each token of a picture. `rope_theta` is used
    only where a checkpoint stores no frequencies.
    """

    model_type = "cogvlm"
    keys_to_ignore_at_inference = ("past_key_values",)
    sub_configs_defaults = {"vision_config": SubConfigSpec(config_class=CogVLMVisionConfig)}  # noqa: RUF012 - theirs

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    use_cache: bool = True
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = 0
    image_token_id: int = 0
    tie_word_embeddings: bool = False
    template_version: str = "chat"
    vision_qkv_bias: bool = False
    spatial_merge_size: int = 1
    vision_config: dict[str, Any] | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        super().__post_init__(**kwargs)

    @property
    def head_dim(self) -> int:
        """Numbers of an attention head."""
        return self.hidden_size // self.num_attention_heads
