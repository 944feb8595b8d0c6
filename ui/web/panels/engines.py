"""Pure: what can be chosen as engine and precision, and what llama.cpp leaves of the other settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backends.models.types import ModelInfo
from backends.placement.types import Overrides, Plan
from ui.i18n import Translator
from ui.naming import engine_name, precision_name
from ui.web import by_hand
from ui.web.drawing import Shown

Choices = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Running:
    """What is known of how a model will run: the person's settings, the model, and the plan if any."""

    overrides: Overrides
    model: ModelInfo | None
    plan: Plan | None

    @property
    def is_gguf(self) -> bool:
        """Whether the model is made of GGUF files, which only llama.cpp runs and as they are."""
        return self.model is not None and self.model.format == "gguf"

    @property
    def only_llamacpp(self) -> bool:
        """Whether no setting could bring in another engine."""
        return self.is_gguf or self.overrides.engine == "llamacpp"

    @property
    def idle_gpus(self) -> bool:
        """Whether the installed llama.cpp leaves GPUs alone that are there."""
        reasons = self.plan.reasons if self.plan is not None and self.plan.engine == "llamacpp" else ()
        return any(reason.code == "hardware.llama_cpu" for reason in reasons)


def view(say: Translator, running: Running, words: Callable[[str], dict[str, Any]]) -> dict[str, Shown]:
    """How both controls look; `words` gives a setting's label and sentence."""
    engine, precision = words("engine"), words("precision")
    if running.is_gguf:
        engine["info"], precision["info"] = say("custom.engine_of_format"), say("custom.precision_of_file")
    able = {"interactive": not running.is_gguf}
    overrides = running.overrides
    return {
        "engine": Shown({**engine, **able, "choices": _engines(say, running)}, overrides.engine or ""),
        "precision": Shown(
            {**precision, **able, "choices": _precisions(say, running)}, overrides.precision or ""
        ),
    }


def _engines(say: Translator, running: Running) -> Choices:
    """The engines by the names that people know, with what each is good at."""
    automatic = say("custom.automatic")
    if running.plan is not None and running.overrides.engine is None:
        automatic = f"{automatic} ({engine_name(running.plan.engine)})"
    if running.is_gguf:
        return [(automatic, "")]
    return [(automatic, ""), *((say(f"custom.engine_{name}"), name) for name in by_hand.ENGINES)]


def _precisions(say: Translator, running: Running) -> Choices:
    """The precisions that the engine has; with Snug's choice of it, those of all."""
    automatic = say("custom.automatic")
    if running.plan is not None and running.overrides.precision is None:
        automatic = f"{automatic}: {precision_name(running.plan.precision, say)}"
    if running.is_gguf:
        return [(automatic, "")]
    chosen = running.overrides.engine
    names = [name for engine, known in by_hand.ENGINES.items() if chosen in (None, engine) for name in known]
    return [(automatic, ""), *((say(f"custom.precision_{name}"), name) for name in names)]
