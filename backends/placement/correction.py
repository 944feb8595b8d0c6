"""What earlier runs teach the memory model: a bounded factor per engine, precision and device. Pure.

Weights are exact (file headers) and so is the KV cache (its geometry times tokens): neither is scaled. What
is scaled is modelled: activations, staging, and what process, context and allocator take (overhead). A run
compares like with like: the formula for the tokens and pictures that were really there, beside what was
held then, both without weights and cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from backends.placement.labels import device_label
from backends.placement.types import DeviceShare
from backends.text import Text

# No factor leaves this range: what is further off is a mistake in the formula, not a trait of a machine.
MOST = 0.25
# Runs that count, the newest ones; a failure is remembered until as many runs have followed it.
RECENT = 8
# One run may warn; only several may promise memory away.
_LOWERING_RUNS = 3
# A run that ran out needed at least what it had, nobody knows how much more: the least it teaches.
_FAILURE_STEP = 1.1
# A difference that no person would notice is not worth a sentence.
_WORTH_SAYING = 0.01
_CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Run:
    """One device of one earlier run. `kind` is `device_kind`'s.

    `expected_bytes` and `measured_bytes` leave out weights and KV cache. `failed` marks an out-of-memory
    error, whose `measured_bytes` are what it had to itself, the least that it needed.
    """

    engine: str
    precision: str
    kind: str
    expected_bytes: int
    measured_bytes: int
    failed: bool = False

    @property
    def ratio(self) -> float:
        """Measured by expected."""
        found = self.measured_bytes / max(self.expected_bytes, 1)
        return max(found, _FAILURE_STEP) if self.failed else found


@dataclass(frozen=True, slots=True)
class Factor:
    """What the scaled terms are multiplied with, from `runs` runs.

    `spare_bytes` is the most that a factor below one may take off: a small run shows how much it had to
    spare, not that a large one has the same share to spare.
    """

    factor: float = 1.0
    spare_bytes: int = 0
    runs: int = 0

    def scaled(self, nbytes: int) -> float:
        """The factor for scaled terms of `nbytes`."""
        if self.factor >= 1.0 or nbytes <= 0:
            return self.factor
        return max(self.factor, 1.0 - self.spare_bytes / nbytes)


_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Correction:
    """Factors by (engine, precision, kind of device); the default changes nothing."""

    factors: tuple[tuple[_Key, Factor], ...] = ()

    def factor(self, engine: str, precision: str, kind: str) -> Factor:
        """The factor of one kind of device."""
        return dict(self.factors).get((engine, precision, kind), Factor())

    def apply(self, share: DeviceShare, engine: str, precision: str, *, with_gpu: bool) -> DeviceShare:
        """`share` with its modelled terms scaled."""
        if not self.factors:
            return share
        kind = device_kind(share.device, share.name, with_gpu=with_gpu)
        modelled = share.activation_bytes + share.staging_bytes + share.overhead_bytes
        factor = self.factor(engine, precision, kind).scaled(modelled)
        if factor == 1.0:
            return share
        return replace(
            share,
            activation_bytes=round(share.activation_bytes * factor),
            staging_bytes=round(share.staging_bytes * factor),
            overhead_bytes=round(share.overhead_bytes * factor),
        )

    def reasons(self, shares: Iterable[DeviceShare], engine: str, precision: str) -> tuple[Text, ...]:
        """A sentence for each device whose share (already scaled) was changed noticeably."""
        if not self.factors:
            return ()
        shares = tuple(shares)
        with_gpu = any(share.device.startswith("cuda:") for share in shares)
        said = []
        for share in shares:
            kind = device_kind(share.device, share.name, with_gpu=with_gpu)
            factor = self.factor(engine, precision, kind)
            modelled = share.activation_bytes + share.staging_bytes + share.overhead_bytes
            # Undoing the factor: `share` holds the scaled terms.
            before = modelled / factor.factor
            if factor.factor < 1.0:
                before = min(before, modelled + factor.spare_bytes)
            change = modelled / before - 1.0 if before > 0 else 0.0
            if abs(change) >= _WORTH_SAYING:
                said.append(_reason(share, change, factor.runs))
        return tuple(said)


NEUTRAL = Correction()


def device_kind(device: str, name: str, *, with_gpu: bool) -> str:
    """What runs on one device tell about another: a GPU's model; RAM, with CUDA's libraries in it or not."""
    if device != _CPU:
        return name
    return "cpu+cuda" if with_gpu else _CPU


def correction(runs: Sequence[Run]) -> Correction:
    """Derive the factors from `runs`, newest first."""
    grouped: dict[_Key, list[Run]] = {}
    for run in runs:
        group = grouped.setdefault((run.engine, run.precision, run.kind), [])
        if len(group) < RECENT and run.expected_bytes > 0:
            group.append(run)
    found = ((key, _factor(group)) for key, group in grouped.items() if group)
    return Correction(tuple((key, factor) for key, factor in found if factor.factor != 1.0))


def _factor(runs: list[Run]) -> Factor:
    """The median ratio; a failure among the runs is a lower limit, and forbids to go below one."""
    typical = median(run.ratio for run in runs)
    failures = [run.ratio for run in runs if run.failed]
    if failures:
        typical = max(typical, *failures, 1.0)
    elif typical < 1.0 and len(runs) < _LOWERING_RUNS:
        typical = 1.0
    spare = median(max(0, run.expected_bytes - run.measured_bytes) for run in runs)
    return Factor(min(max(typical, 1.0 - MOST), 1.0 + MOST), int(spare), len(runs))


def _reason(share: DeviceShare, change: float, runs: int) -> Text:
    device = device_label(share.device, share.name)
    percent = round(abs(change) * 100)
    if change > 0:
        return Text.of(
            "reason.corrected_up",
            "{device}: earlier runs (counted: {runs}) needed more than the formula says, so what is neither "
            "weights nor cache is counted {percent} % higher.",
            device=device,
            runs=runs,
            percent=percent,
        )
    return Text.of(
        "reason.corrected_down",
        "Earlier runs on {device} (counted: {runs}) needed less than the formula says: what is neither "
        "weights nor cache is taken {percent} % lower.",
        device=device,
        runs=runs,
        percent=percent,
    )
