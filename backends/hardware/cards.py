"""The cards of the table of known parts as one would add them to a machine, smallest and cheapest first."""

from __future__ import annotations

import re
from dataclasses import dataclass

from backends.hardware import known
from backends.hardware.types import Gpu

# The oldest generation (Turing) that the wheels of PyTorch for today's CUDA still contain kernels for.
_OLDEST = (7, 5)
_SPELLED = {"ti": "Ti", "super": "SUPER", "ada": "Ada Generation", "80gb": "80GB", "pcie": "PCIe"}


@dataclass(frozen=True, slots=True)
class Card:
    """A card that can be bought on its own.

    `price_class` is 0 for a gaming card, 1 for a workstation's, 2 for a data centre's: prices change by
    the week, their order over these classes does not.
    """

    name: str
    facts: known.GpuFacts
    price_class: int

    def as_gpu(self, index: int) -> Gpu:
        """The card at rest in a machine: its driver and a desktop hold a few per cent."""
        total = int(self.facts.gib * known.GIB)
        gpu = Gpu(index, self.name, total, total - total // 32)
        return known.fill_gpu(gpu)[0]


def cards() -> tuple[Card, ...]:
    """Every card that today's PyTorch runs on, by memory, then price class, then speed; no laptop's."""
    found = [
        Card(_name(key), facts, _price_class(key))
        for key, facts in known.listed().items()
        if "laptop" not in key and facts.compute_capability >= _OLDEST
    ]
    return tuple(
        sorted(found, key=lambda card: (card.facts.gib, card.price_class, card.facts.tflops, card.name))
    )


def _price_class(key: str) -> int:
    if re.match(r"rtx (a\d|\d{4} ada)", key):
        return 1
    return 0 if key.startswith(("gtx ", "rtx ", "titan ")) else 2


def _name(key: str) -> str:
    """The driver's spelling: `rtx 4060 ti` -> NVIDIA GeForce RTX 4060 Ti."""
    words = [_SPELLED.get(word, word.upper()) for word in key.removeprefix("tesla ").split()]
    maker = "NVIDIA GeForce" if key.startswith(("gtx ", "rtx ")) and _price_class(key) == 0 else "NVIDIA"
    return " ".join([maker, *words])
