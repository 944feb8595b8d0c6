"""What every error of Snug has: sentences, an exit code, a button; `backends.errors` has the tree."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from backends.text import Text, Value


class Action(StrEnum):
    """What the page can offer with one click."""

    RESTART = "restart"
    USE_LOWER_PRESET = "use_lower_preset"
    STEP_DOWN = "step_down"
    UNDO_STEP = "undo_step"
    SHORTEN = "shorten"
    MORE_PICTURES = "more_pictures"
    PICK_MODEL = "pick_model"
    RETRY = "retry"
    WITHOUT_GPU = "without_gpu"
    SIXTEEN_BITS = "sixteen_bits"
    USE_TRANSFORMERS = "use_transformers"
    CLEAR_CONVERTED = "clear_converted"


class SnugError(Exception):
    """Base of everything that Snug raises on purpose; `values` fill the three templates."""

    code: ClassVar[str] = "error"
    what: ClassVar[str] = "Something went wrong."
    why: ClassVar[str] = "{detail}"
    remedy: ClassVar[str] = "Try again."
    action: ClassVar[Action | None] = None
    exit_code: ClassVar[int] = 4

    def __init__(self, **values: Value) -> None:
        super().__init__(values)
        self.values = values

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from keyword figures: errors cross the process border."""
        return (_rebuild, (type(self), self.values))

    def _text(self, field: str, template: str) -> Text:
        return Text(f"error.{self.code}.{field}", template, tuple(self.values.items()))

    @property
    def what_text(self) -> Text:
        """What happened."""
        return self._text("what", self.what)

    @property
    def why_text(self) -> Text:
        """Why, with the figures."""
        return self._text("why", self.why)

    @property
    def remedy_text(self) -> Text:
        """What to do: `next_step`, where it is among the values, and what the class says otherwise."""
        step = self.values.get("next_step")
        return step if isinstance(step, Text) else self._text("remedy", self.remedy)

    def __str__(self) -> str:
        return f"{self.what_text} {self.why_text} {self.remedy_text}"


class InputError(SnugError):
    """The person's input is wrong."""

    code = "input"
    exit_code = 2


class MachineError(SnugError):
    """The machine can't do what was asked."""

    code = "machine"
    exit_code = 3


def _rebuild(kind: type[SnugError], values: dict[str, Value]) -> SnugError:
    return kind(**values)
