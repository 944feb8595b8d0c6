"""What people call an engine and a precision: names of the field, and bits in words."""

from __future__ import annotations

import re

from ui.i18n import Translator

_ENGINES = {"llamacpp": "llama.cpp"}
_NAMED = ("int8", "nf4")
# GGUF's types say how many bits a number takes.
_GGUF = re.compile(r"(?:i|t|mxf|nvf)?[qpf](?P<bits>16|32|\d)(?:_\w+)?")


def engine_name(engine: str) -> str:
    """The engine as its makers write it."""
    return _ENGINES.get(engine, engine)


def precision_name(precision: str, say: Translator) -> str:
    """A precision in words: how many bits, and for GGUF its own name, such as `8-bit (Q8_0)`."""
    if precision in _NAMED:
        return say(f"precision.{precision}")
    found = _GGUF.fullmatch(precision)
    if found is None:
        return precision
    return say("precision.bits", bits=found["bits"], name=precision.upper())


def exact_name(engine: str, precision: str) -> str:
    """A precision by the name that settings know it by, in GGUF's capitals where it is one of its types."""
    return precision.upper() if engine == "llamacpp" else precision


def short_name(engine: str, precision: str) -> str:
    """Engine and precision for a line with little room; transformers is not named."""
    exact = exact_name(engine, precision)
    return f"{engine_name(engine)} {exact}" if engine == "llamacpp" else exact
