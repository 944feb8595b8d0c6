"""What adapter_config.json of a PEFT LoRA says: the factor of each product, and what can't be merged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged
from backends.models.adapter import unmergeable
from backends.text import Text, shown_name

_FILE = "adapter_config.json"
# PEFT's own values for what a config leaves out.
_ALPHA = 8
# Settings under which an adapter is more than products added to weights.
_NOT_MERGED = (
    *("use_dora", "use_qalora", "use_bdlora", "lora_bias", "layer_replication", "target_parameters"),
    *("trainable_token_indices", "alora_invocation_tokens", "arrow_config"),
)
# Ways to begin that change the base model's own weights, too.
_CHANGE_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
# A pattern is a regular expression out of somebody's file: long ones with many repetitions take for ever.
_LONGEST_PATTERN, _MOST_REPETITIONS = 200, 2
_PLAIN = re.compile(r"[\w.]+")
_REPEATED = re.compile(r"[*+{]")


def check_mergeable(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a LoRA that is more than products added to weights. Raises ModelUnsupported with its setting."""
    for key in _NOT_MERGED:
        if config.get(key):
            raise _refused(folder, key)
    begin = config.get("init_lora_weights")
    if isinstance(begin, str) and begin.lower().startswith(_CHANGE_BASE):
        raise _refused(folder, f"init_lora_weights: {begin}")


class Scales:
    """The factor with which each module's product is added."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder, self._config = folder, config
        self._ranks = self._patterns("rank_pattern")
        self._alphas = self._patterns("alpha_pattern")

    def of(self, module: str, rank: int) -> float:
        """lora_alpha / r, or / sqrt(r) for a rank-stabilised LoRA, by the patterns for `module`.

        `rank` is that of the module's matrices. Raises ModelDamaged when the config says another one, or no
        numbers.
        """
        stated = _chosen(self._ranks, module, self._config.get("r"))
        if stated is not None and stated != rank:
            raise self._damaged(
                Text.of(
                    "lora.rank",
                    "adapter_config.json says rank {stated} for {module}, and its matrices have rank {rank}.",
                    stated=shown_name(str(stated)),
                    module=shown_name(module),
                    rank=rank,
                )
            )
        alpha = _chosen(self._alphas, module, self._config.get("lora_alpha", _ALPHA))
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise self._damaged(
                Text.of(
                    "lora.alpha",
                    "adapter_config.json gives {value} as lora_alpha, which is no number.",
                    value=shown_name(str(alpha)),
                )
            )
        return float(alpha) / (math.sqrt(rank) if self._config.get("use_rslora") else rank)

    def _patterns(self, key: str) -> Mapping[str, Any]:
        found = self._config.get(key) or {}
        if not isinstance(found, dict) or not all(map(_is_quick, found)):
            raise self._damaged(
                Text.of("lora.pattern", "adapter_config.json has a {key} that can't be used.", key=key)
            )
        return found

    def _damaged(self, detail: Text) -> ModelDamaged:
        return ModelDamaged(path=str(self._folder), detail=detail, file=_FILE)


def _chosen(patterns: Mapping[str, Any], module: str, otherwise: object) -> Any:  # noqa: ANN401 - of a JSON file
    """The value of the first pattern that `module` ends with, as PEFT matches them."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _is_quick(pattern: str) -> bool:
    """Whether a pattern is one, and one that ends: no repetition of a group, few of anything."""
    if len(pattern) > _LONGEST_PATTERN:
        return False
    if not _PLAIN.fullmatch(pattern):
        if re.search(r"\)[*+{?]", pattern) or len(_REPEATED.findall(pattern)) > _MOST_REPETITIONS:
            return False
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            return False
    return True


def _refused(folder: Path, setting: str) -> Exception:
    return unmergeable(
        folder,
        Text.of(
            "lora.setting",
            "It is a LoRA with {setting}, which is more than products added to weights: Snug can't merge it.",
            setting=shown_name(setting),
        ),
    )
