"""Builds every family that transformers has, without memory, and tells what each really is; run as a script.

    python -m tests.support.all_families [--configs] [MODEL_TYPE ...]

Prints one JSON document a line: the default config (cut to its first few layers), names and shapes as they
are saved, the modules of the model, and what its cache holds, layer by layer, after `TOKENS` tokens.
With `--configs` only what each default config says of its layers is told. Everything is on torch's meta
device. A process of its own, so that torch stays out of the tests' one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.family_check import TOKENS
from tests.support.real_trees import describe

_LAYERS = 4
_SECONDS = 25
FACTS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
_COUNTS = (
    "num_hidden_layers",
    "depth",
    "num_layers",
    "n_layer",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
)


def all_types() -> dict[str, str]:
    """Model type -> class, of all that answer about pictures or continue text."""
    from transformers.models.auto import modeling_auto

    return {
        **modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        **modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    }


def survey(family: str, name: str) -> dict[str, Any]:
    """What one family really is; `error` where transformers itself can't build it."""
    import torch
    import transformers

    with _limited():
        config = transformers.models.auto.configuration_auto.CONFIG_MAPPING[family]()
        defaults = _facts(config)
        cut(config)
        kind = getattr(transformers, name[0] if isinstance(name, tuple) else name)
        with torch.device("meta"):
            model = kind(config)
    found = {**describe(model), "defaults": defaults}
    found["architecture"] = type(model).__name__
    found["encoder_decoder"] = bool(getattr(model.config, "is_encoder_decoder", False))
    try:
        with _limited():
            found["cache"] = _kept(model)
    except BaseException as error:  # noqa: BLE001 - a family that can't run without memory
        found["cache_error"] = f"{type(error).__name__}: {error}"[:200]
    return found


def _facts(config: Any) -> dict[str, Any]:
    """What the language model's default config says of itself and of each layer's cache."""
    from transformers.cache_utils import get_layer_types_and_kwargs

    text = config.get_text_config(decoder=True)
    kinds, options = get_layer_types_and_kwargs(text)
    return {
        **{name: _fact(text, name) for name in FACTS},
        "kinds": list(kinds),
        "windows": [option.get("sliding_window") for option in options],
    }


def _fact(text: Any, name: str) -> Any:
    try:
        return getattr(text, name, None)
    except Exception:  # noqa: BLE001 - another figure for each layer
        return None


def cut(config: Any) -> None:
    """Keep the first layers, so many that each kind of layer is among them."""
    text = config.get_text_config(decoder=True)
    kinds = getattr(text, "layer_types", None)
    keep = _LAYERS
    if isinstance(kinds, list | tuple) and kinds:
        keep = max(keep, *(list(kinds).index(kind) + 1 for kind in set(kinds)))
    _cut(config, keep)


def _cut(config: Any, keep: int) -> None:
    for name in _COUNTS:
        count = getattr(config, name, None)
        if isinstance(count, int) and count > keep:
            for key, value in list(vars(config).items()):
                if isinstance(value, list) and len(value) == count:
                    setattr(config, key, value[:keep])
            setattr(config, name, keep)
    for value in list(vars(config).values()):
        if hasattr(value, "to_dict"):
            _cut(value, keep)


def _kept(model: Any) -> list[list[int]]:
    """[numbers of the compute dtype, numbers of float32] that each layer keeps after `TOKENS` tokens."""
    import torch
    from transformers import DynamicCache

    model = model.to(torch.bfloat16).eval()
    cache = DynamicCache(config=model.config)
    ids = torch.zeros((1, TOKENS - 1), dtype=torch.long, device="meta")
    with torch.inference_mode():
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1)
    return [_numbers(layer) for layer in cache.layers]


def _numbers(layer: Any) -> list[int]:
    import torch

    held = [getattr(layer, name, None) for name in ("keys", "values", "indexer_keys")]
    for name in ("conv_states", "recurrent_states"):
        held += list((getattr(layer, name, None) or {}).values())
    tensors = [part for part in held if isinstance(part, torch.Tensor)]
    full = [
        part.untyped_storage().nbytes() // part.element_size()
        for part in tensors
        if part.dtype == torch.float32
    ]
    half = [
        part.untyped_storage().nbytes() // part.element_size()
        for part in tensors
        if part.dtype != torch.float32
    ]
    return [sum(half), sum(full)]


@contextmanager
def _limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def configured(family: str) -> dict[str, Any]:
    """What a family's default config says."""
    import transformers

    return {"defaults": _facts(transformers.models.auto.configuration_auto.CONFIG_MAPPING[family]())}


def main(wanted: list[str]) -> None:
    """Tell of `wanted` (default: every family)."""
    import transformers

    transformers.logging.set_verbosity_error()
    types = all_types()
    configs = "--configs" in wanted
    for family in [name for name in wanted if name != "--configs"] or sorted(types):
        try:
            found = configured(family) if configs else survey(family, types[family])
        except BaseException as error:  # noqa: BLE001 - one family's trouble is not the others'
            found = {"error": f"{type(error).__name__}: {error}"[:300]}
        sys.stdout.write(json.dumps({"family": family, **found}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
    main(sys.argv[1:])
