"""Pure: machines that a person can plan for without having them: typical ones, and one put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from backends.errors import SettingInvalid
from backends.hardware import cards, describe
from backends.hardware.known import gpu_facts
from backends.hardware.types import HardwareSnapshot
from backends.text import Text

GIB = 2**30
MOST_GPUS = 16
_MOST_CARD_GIB, _MOST_RAM_GIB = 1024, 16_384
SYSTEMS = ("windows", "linux", "macos")
_LAPTOPS = tuple(f"NVIDIA GeForce RTX {model} Laptop GPU" for model in (3060, 4060, 4070, 4090))


@dataclass(frozen=True, slots=True)
class Parts:
    """A machine as one would order it; sizes in GiB, `gib` of each card (None: what its data sheet says).

    Numbers are as a person wrote them: `build` checks them.
    """

    card: str = ""
    count: float = 0
    gib: float | None = None
    ram_gib: float = 16
    os: str = "windows"
    cpu: str = ""
    cores: int | None = None


_DESKTOP_FEATURES = ("avx", "avx2", "fma", "f16c")
# Key of its name in ui/i18n -> its parts; what people ask about, from small to large.
TYPICAL: dict[str, Parts] = {
    "office": Parts(ram_gib=16, cpu="Intel Core i5-12400", cores=6),
    "macbook": Parts(ram_gib=16, os="macos", cpu="Apple M2", cores=8),
    "laptop_6": Parts(_LAPTOPS[0], 1, ram_gib=16, cpu="AMD Ryzen 7 5800H", cores=8),
    "laptop_8": Parts(_LAPTOPS[1], 1, ram_gib=16, cpu="Intel Core i7-13700H", cores=14),
    "desktop_12": Parts("NVIDIA GeForce RTX 3060", 1, ram_gib=32, cpu="AMD Ryzen 5 5600X", cores=6),
    "desktop_16": Parts("NVIDIA GeForce RTX 4080 SUPER", 1, ram_gib=32, cpu="AMD Ryzen 7 7800X3D", cores=8),
    "desktop_24": Parts("NVIDIA GeForce RTX 4090", 1, ram_gib=64, cpu="AMD Ryzen 9 7950X", cores=16),
    "two_24": Parts("NVIDIA GeForce RTX 3090", 2, ram_gib=64, os="linux", cpu="AMD Ryzen 9 5950X", cores=16),
    "server_8": Parts("NVIDIA GeForce RTX 2080 Ti", 8, ram_gib=128, os="linux", cpu="Intel Xeon", cores=32),
    "server_80": Parts("NVIDIA H100", 1, ram_gib=256, os="linux", cpu="AMD EPYC", cores=32),
}  # fmt: skip


def card_names() -> tuple[str, ...]:
    """The cards to choose from: those one can buy, and laptops'."""
    return (*dict.fromkeys(card.name for card in cards.cards()), *_LAPTOPS)


def card_gib(name: str) -> float | None:
    """The memory of a card that the table knows."""
    facts = gpu_facts(name)
    return facts.gib if facts else None


def with_card(parts: Parts, name: str) -> Parts:
    """The same machine with another card: its memory is the new card's, and there is at least one."""
    if not name:
        return replace(parts, card="", count=0, gib=None)
    return replace(parts, card=name, count=max(1, parts.count), gib=card_gib(name))


def build(parts: Parts) -> HardwareSnapshot:
    """Describe the machine. Raises SettingInvalid for what can't be."""
    card = parts.card.strip()
    if card and parts.gib is None and card_gib(card) is None:
        raise SettingInvalid(
            name=card,
            value=Text("machine.unknown_card", "planned with"),
            detail=Text("machine.no_memory", "No table has this card, so its memory is not known."),
            suggestion=Text("machine.no_memory_remedy", "Write how much memory it has."),
        )
    if card and parts.gib is not None:
        _check_size(Text("whatif.gib", "GB each"), parts.gib, _MOST_CARD_GIB)
    if not 0 <= parts.count <= MOST_GPUS:
        raise SettingInvalid(
            name=Text("machine.count", "The number of cards"),
            value=f"{parts.count:g}",
            detail=Text("machine.too_many", "No machine is planned with as many."),
            suggestion=Text.of("check.up_to", "a number from 0 to {most}", most=MOST_GPUS),
        )
    _check_size(Text("whatif.ram", "GB of RAM"), parts.ram_gib, _MOST_RAM_GIB)
    entry: dict[str, Any] = {"name": card}
    if parts.gib is not None:
        entry["total_bytes"] = int(parts.gib * GIB)
    cpu: dict[str, Any] = {"name": parts.cpu} if parts.cpu else {}
    if parts.cores is not None:
        cpu["cores"] = parts.cores
        cpu["features"] = ["neon"] if parts.os == "macos" else list(_DESKTOP_FEATURES)
    document = {
        "os": parts.os,
        "gpus": [{**entry, "index": index} for index in range(int(parts.count))] if card else [],
        "ram": {"total_bytes": int(parts.ram_gib * GIB)},
        "cpu": cpu,
        "disk": {"path": "C:\\" if parts.os == "windows" else "/"},
    }
    return describe.from_json(document, "the page")


def _check_size(name: Text, gib: float, most: int) -> None:
    if not 0 < gib <= most:
        raise SettingInvalid(
            name=Text.of("custom.named", '"{name}"', name=name),
            value=f"{gib:g}",
            detail=Text.of("machine.size", "It takes a number above 0, up to {most:count}.", most=most),
            suggestion=Text("machine.size_remedy", "Correct it; the plan stays as it was meanwhile."),
        )


def parts_of(hardware: HardwareSnapshot) -> Parts:
    """The nearest that the fields can say of a described machine."""
    first = hardware.gpus[0] if hardware.gpus else None
    return Parts(
        card=first.name if first else "",
        count=len(hardware.gpus),
        gib=round(first.total_bytes / GIB, 1) if first else None,
        ram_gib=round(hardware.ram.total_bytes / GIB, 1),
        os=hardware.os,
    )
