"""CogVLM and CogVLM2 as a class of today's transformers.

The parts have the names that their authors' files give them, so that a checkpoint loads without renaming.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    BaseModelOutputWithPooling,
    CausalLMOutputWithPast,
)

from backends.engines.originals.cogvlm.configuration import CogVLMConfig
from backends.engines.originals.cogvlm.decoder import CogVLMDecoderLayer, CogVLMRMSNorm, CogVLMRotary, sides
from backends.engines.originals.cogvlm.places import IMAGE, positions, takes_vision
from backends.engines.originals.cogvlm.tower import CogVLMPatchEmbedding, CogVLMVisionModel


class CogVLMPreTrainedModel(PreTrainedModel):
    """What transformers wants to know of both classes below."""

    config_class = CogVLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    _no_split_modules = ("CogVLMDecoderLayer", "CogVLMVisionLayer", "CogVLMPatchEmbedding")
    _skip_keys_device_placement = ("past_key_values",)
    _keep_in_fp32_modules_strict = ("rotary_emb",)
    _keys_to_ignore_on_load_missing = (r"rotary_emb\.inv_freq$",)
    _supports_sdpa = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fill what no file holds."""
        super()._init_weights(module)
        if isinstance(module, CogVLMRotary):
            init.copy_(module.inv_freq, module.frequencies())
        elif isinstance(module, CogVLMPatchEmbedding):
            init.zeros_(module.cls_embedding)
        elif isinstance(module, CogVLMVisionModel):
            init.zeros_(module.boi)
            init.zeros_(module.eoi)


class CogVLMModel(CogVLMPreTrainedModel):
    """The tower and the decoder, without the head."""

    def __init__(self, config: CogVLMConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            [CogVLMDecoderLayer(config, index) for index in range(config.num_hidden_layers)]
        )
        self.norm = CogVLMRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.vision = CogVLMVisionModel(config)
        self.post_init()

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        *,
        vision_tokens: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
    ) -> BaseModelOutputWithPast:
        """Embeddings [batch, tokens, hidden] -> hidden states of the same shape."""
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=None,  # patches share one, which would be taken for the start of another sequence
        )
        hidden = inputs_embeds
        experts = None if vision_tokens is None else sides(vision_tokens)
        for layer in self.layers:
            hidden = layer(
                hidden,
                places=position_ids,
                experts=experts,
                attention_mask=mask,
                past_key_values=past_key_values,
            )
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), past_key_values=past_key_values)


class CogVLMForCausalLM(CogVLMPreTrainedModel, GenerationMixin):
    """Answers questions about a picture, or about none."""

    def __init__(self, config: CogVLMConfig) -> None:
        super().__init__(config)
        self.model = CogVLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Pixels [pictures, channels, side, side] -> `pooler_output` [pictures, tokens, hidden], markers
        included.
        """
        return BaseModelOutputWithPooling(pooler_output=self.model.vision(pixel_values))

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        *,
        pixel_values: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        vision_tokens: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        return_dict: bool | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits [batch, tokens or `logits_to_keep`, vocab].

        `token_type_ids` [batch, tokens] are 1 for a picture's tokens, markers included. `vision_tokens`
        [batch, tokens] says instead which tokens take the experts for pictures: needed where a pass ends
        within a picture, since that depends on the token that follows. With neither, and no pixels, all are
        words.
        """
        if token_type_ids is None and pixel_values is not None and input_ids is not None:
            token_type_ids = (input_ids == self.config.image_token_id).long()
        if vision_tokens is None and token_type_ids is not None:
            vision_tokens = takes_vision(token_type_ids)
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
            if pixel_values is not None and token_type_ids is not None:
                inputs_embeds = self._with_pictures(inputs_embeds, token_type_ids, pixel_values)
        if past_key_values is None and (self.config.use_cache if use_cache is None else use_cache):
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            position_ids = _counted_on(inputs_embeds, token_type_ids, past_key_values)
        output = self.model(
            inputs_embeds,
            position_ids,
            vision_tokens=vision_tokens,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, kept])
        made = CausalLMOutputWithPast(logits=logits, past_key_values=output.past_key_values)
        return made.to_tuple() if return_dict is False else made

    def prepare_inputs_for_generation(
        self, *args: Any, is_first_iteration: bool = False, use_cache: bool = True, **kwargs: Any
    ) -> dict[str, Any]:
        """While decoding from a cache every token is a word: nothing about pictures is handed on then."""
        made = super().prepare_inputs_for_generation(
            *args, is_first_iteration=is_first_iteration, use_cache=use_cache, **kwargs
        )
        if use_cache and not is_first_iteration:
            made.pop("token_type_ids", None)
        return made

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        types = model_kwargs.get("token_type_ids")
        made = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        if types is not None:  # what is answered are words, whatever the prompt ended with
            made["token_type_ids"][:, types.shape[1] :] = 0
        return made

    def _prepare_position_ids_for_generation(
        self, inputs_tensor: torch.Tensor, model_kwargs: dict[str, Any]
    ) -> torch.Tensor:
        types = model_kwargs.get("token_type_ids")
        if types is None and model_kwargs.get("pixel_values") is not None:
            types = (inputs_tensor == self.config.image_token_id).long()
            model_kwargs["token_type_ids"] = types
        if types is None:
            found: torch.Tensor = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
            return found
        return positions(types, model_kwargs.get("attention_mask"))

    def _prepare_attention_mask_for_generation(
        self, inputs_tensor: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor:
        """All tokens count: the one for padding is also the one that stands for pictures."""
        return torch.ones(inputs_tensor.shape[:2], dtype=torch.long, device=inputs_tensor.device)

    def _with_pictures(
        self, embeds: torch.Tensor, token_types: torch.Tensor, pixels: torch.Tensor
    ) -> torch.Tensor:
        features = self.get_image_features(pixels.to(self.dtype)).pooler_output
        features = features.reshape(-1, features.shape[-1]).to(embeds.device, embeds.dtype)
        chosen = (token_types == IMAGE).to(embeds.device)
        if int(chosen.sum()) != len(features):
            raise ValueError(f"{int(chosen.sum())} tokens stand for pictures of {len(features)}")
        return embeds.masked_scatter(chosen[..., None], features)


def _counted_on(embeds: torch.Tensor, token_types: torch.Tensor | None, cache: Any) -> torch.Tensor:
    """Positions of a pass that names none: behind what the cache holds, where all of that was words."""
    if token_types is not None:
        return positions(token_types)
    start = cache.get_seq_length() if cache is not None else 0
    return torch.arange(start, start + embeds.shape[1], device=embeds.device)[None]
