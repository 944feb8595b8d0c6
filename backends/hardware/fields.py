"""Taking values out of a person's JSON with their types checked, each error knowing its place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from backends.text import Text

JsonPath = tuple[str | int, ...]
_MOST_BYTES = 1 << 60
# GB/s or GFLOP/s beyond any machine.
_FASTEST = 1e12


# The value of a key that is not there.
MISSING = object()


class BadValue(Exception):
    """A value that can't be used: where it stands, what is wrong and what would be right."""

    def __init__(self, path: JsonPath, value: object, detail: Text, suggestion: Text) -> None:
        super().__init__(str(detail))
        self.path, self.value, self.detail, self.suggestion = path, value, detail, suggestion


class JsonObject:
    """A JSON object with its path, whose values are taken out with their type checked."""

    def __init__(self, value: object, path: JsonPath) -> None:
        if not isinstance(value, Mapping):
            raise BadValue(
                path,
                value,
                Text("hardware.file.object", "It is not a JSON object."),
                Text("hardware.file.object_remedy", 'Write it like {{"key": value}}.'),
            )
        self._value: Mapping[str, Any] = value
        self.path = path

    def bad(self, key: str, detail: Text, suggestion: Text) -> BadValue:
        """Build the error about `key`."""
        return BadValue((*self.path, key), self.get(key), detail, suggestion)

    def check_names(self, *names: str) -> None:
        """Refuse a key that looks like a misspelt one; what is merely unknown is left alone."""
        for key in self._value:
            close = difflib.get_close_matches(key, names, n=1, cutoff=0.8)
            if key not in names and close and close[0] not in self._value:
                raise self.bad(
                    key,
                    Text("hardware.file.no_key", "There is no such key."),
                    Text.of("hardware.file.meant", "Write {key!r} if that is meant.", key=close[0]),
                )

    def get(self, key: str) -> Any:  # noqa: ANN401 - a JSON value
        """Return the raw value, None when absent."""
        return self._value.get(key)

    def child(self, key: str, *, required: bool = False) -> JsonObject:
        """Return the object at `key`; an empty one when it may be absent."""
        if self.get(key) is None and not required:
            return JsonObject({}, (*self.path, key))
        self._require(key)
        return JsonObject(self.get(key), (*self.path, key))

    def items(self, key: str, default: Sequence[Any] | None = None) -> Sequence[Any]:
        """Return the list at `key`."""
        value = self._or_default(key, default)
        if not isinstance(value, (list, tuple)):
            raise self.bad(
                key,
                Text("hardware.file.list", "It is not a list."),
                Text("hardware.file.list_remedy", "Write it like [...]."),
            )
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Return the text at `key`."""
        return self.word(self._or_default(key, default), (*self.path, key))

    def choice(self, key: str, choices: Sequence[str]) -> Any:  # noqa: ANN401 - one of the literals given
        """Return the text at `key`, one of `choices`."""
        self._require(key)
        if self.get(key) not in choices:
            raise self.bad(
                key,
                Text("hardware.file.choice", "It is none of those that exist."),
                Text.of(
                    "hardware.file.choice_remedy", "Write one of: {choices}.", choices=", ".join(choices)
                ),
            )
        return self.get(key)

    def flag(self, key: str) -> bool:
        """Return true or false, false when absent."""
        value = self._or_default(key, default=False)
        if not isinstance(value, bool):
            raise self.bad(
                key,
                Text("hardware.file.flag", "It is neither true nor false."),
                Text("hardware.file.flag_remedy", "Write true or false."),
            )
        return value

    def whole(self, key: str, default: int | None, least: int, most: int) -> int | None:
        """Return the whole number at `key`."""
        value = default if self.get(key) is None else self.get(key)
        if value is not None and not (is_whole(value) and least <= value <= most):
            raise self.bad(
                key,
                Text.of(
                    "hardware.file.whole_range",
                    "It is not a whole number from {least} to {most}.",
                    least=least,
                    most=most,
                ),
                Text("hardware.file.correct_number", "Correct the number."),
            )
        return value

    def size(self, key: str, default: int | None = None, least: int = 0) -> int:
        """Return the bytes at `key`."""
        value = self._or_default(key, default)
        if not is_whole(value) or not least <= value <= _MOST_BYTES:
            raise self.bad(
                key,
                Text("hardware.file.bytes", "It is not a number of bytes."),
                Text("hardware.file.bytes_remedy", "Write a whole number, such as 8589934592."),
            )
        return int(value)

    def speed(self, key: str) -> float | None:
        """Return the positive figure at `key`, None when absent."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _FASTEST:
            raise self.bad(
                key,
                Text("hardware.file.speed", "It is not a number above zero that a machine could have."),
                Text("hardware.file.speed_remedy", "Write a number, or null if unknown."),
            )
        return float(value)

    @staticmethod
    def number(value: object, path: JsonPath) -> int:
        """Check a whole number that stands in a list."""
        if not is_whole(value):
            raise BadValue(
                path,
                value,
                Text("hardware.file.whole", "It is not a whole number."),
                Text("hardware.file.whole_remedy", "Write a whole number."),
            )
        return value

    @staticmethod
    def word(value: object, path: JsonPath) -> str:
        """Check a text."""
        if not isinstance(value, str) or not value.strip():
            raise BadValue(
                path,
                value,
                Text("hardware.file.text", "It is not a text."),
                Text("hardware.file.text_remedy", "Write a text in double quotes."),
            )
        return value

    def _or_default(self, key: str, default: Any) -> Any:  # noqa: ANN401 - a JSON value
        if self.get(key) is None:
            if default is None:
                self._require(key)
            return default
        return self.get(key)

    def _require(self, key: str) -> None:
        if self.get(key) is None:
            raise BadValue(
                (*self.path, key),
                MISSING,
                Text("hardware.file.absent", "There is no such key, or it is null."),
                Text.of("hardware.file.absent_remedy", "Add the key {key!r}.", key=key),
            )


def is_whole(value: object) -> TypeGuard[int]:
    """Tell a whole number from everything else, true and false included."""
    return isinstance(value, int) and not isinstance(value, bool)


def dotted(path: JsonPath) -> str:
    """Write a path the way people do: `gpus[0].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".") or "the description"
