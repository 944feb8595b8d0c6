"""Memory or the disk ran out, or fewer pictures were planned for: say the next step as a command to paste."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from backends.errors import DiskFull, OutOfMemory, PicturesExceeded, SnugError
from backends.messages import Message
from backends.placement.ladder import When
from backends.placement.types import PlanRequest
from backends.service import Service
from backends.text import Text
from ui.i18n import Translator
from ui.overrides import to_settings


@dataclass(frozen=True, slots=True)
class Given:
    """A command as it was given: its name, the `--set` values, and the words that follow those."""

    name: str
    settings: Sequence[str]
    rest: Sequence[str]

    def with_request(self, request: PlanRequest) -> str:
        """The same command with another request, quoted for this system's shell."""
        words = ["python", "launch.py", self.name, request.model, "--preset", request.preset.value]
        # A device map stands in the file that the person named.
        map_files = [setting for setting in self.settings if setting.startswith("device_map=")]
        for setting in to_settings(request.overrides):
            words += ["--set", map_files[-1] if setting.startswith("device_map=") and map_files else setting]
        words += self.rest
        return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def repeated(options: argparse.Namespace, *names: str) -> list[str]:
    """The options of these names as they are written, without those that were left out."""
    words: list[str] = []
    for name in names:
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


@contextmanager
def saying_the_next_step(
    service: Service, given: Given, messages: Sequence[Message], say: Translator
) -> Iterator[None]:
    """Give an OutOfMemory, DiskFull or PicturesExceeded the next step as its remedy; all else passes."""
    try:
        yield
    except PicturesExceeded as error:
        raise _with_room(error, service, given) from error
    except DiskFull as error:
        raise _with_clearing(error, service) from error
    except OutOfMemory as error:
        raise _with_step(error, service, given, messages, say) from error


def _with_room(error: PicturesExceeded, service: Service, given: Given) -> PicturesExceeded:
    """The command that plans for as many pictures as there are."""
    plan = service.state().plan
    if plan is None:
        return error
    overrides = replace(plan.request.overrides, images=int(str(error.values["pictures"])))
    command = given.with_request(replace(plan.request, overrides=overrides))
    step = Text.of("cli.more_pictures", "Keep memory for them. Run: {command}", command=command)
    return PicturesExceeded(**error.values, next_step=step)


def _with_clearing(error: DiskFull, service: Service) -> DiskFull:
    """The remedy, and the command that removes converted files, where a conversion lacked their room."""
    failed, removable = service.state().failed, service.converted().removable_bytes
    if failed is None or failed.conversion is None or not removable:
        return error
    step = Text.of(
        "cli.clear_converted",
        "{remedy} Models that were converted before take {size:bytes}, and each is converted again when it "
        "is next loaded. To remove them, run: {command}",
        remedy=error.remedy_text,
        size=removable,
        command="python launch.py doctor --clear-converted",
    )
    return DiskFull(**error.values, next_step=step)


def _with_step(
    error: OutOfMemory, service: Service, given: Given, messages: Sequence[Message], say: Translator
) -> OutOfMemory:
    state = service.state()
    failed = state.failed or state.plan
    if failed is None:
        return error
    pictures: When = "image" if messages and messages[-1].images else "chat"
    try:
        offer = service.next_step(error, failed, "load" if state.failed else pictures)
    except SnugError:
        return error  # the model's folder went away: what ran out is still true
    remedy = offer.nothing
    if offer.step is not None:
        remedy = Text.of(
            "cli.next_step",
            "{step}. {costs} Run: {command}",
            step=offer.step.name,
            costs=" ".join(say.text(cost) for cost in offer.step.costs),
            command=given.with_request(offer.step.request),
        )
    assert remedy is not None, "an offer has a step or says that there is none"
    return type(error)(**offer.error.values, next_step=remedy)
