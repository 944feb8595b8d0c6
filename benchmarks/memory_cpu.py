"""Predicted against measured on this machine's CPU: peak RAM, and a second run under it as a hard limit.

Every case runs in a fresh child process through the real engine. It is asked a few words, which end the
rehearsal that follows a load; a short question about its pictures (first token and speed, which the plan
states for exactly that; the best of three beside what calibrating found before or after, whichever was
better: what others take of a shared machine is not what is predicted); then one that fills the context
(memory; and twice more for its speed). The peak is the kernel's own record. Then the case runs again, its
files dropped from the page cache, in a memory control group of the predicted peak.

Pages of mapped weights that no question has touched are not in that peak: rows of an embedding, a vision
part without a picture. The plan counts them, since they come with time; a second row compares them counted.

A disk's speed is taken from the checkpoint's own files, read whole past the cache: for as long as a pass
reads them, which is longer than calibrating does.

    python -m benchmarks.memory_cpu [--only NAME] [--no-limit] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from backends.errors import SnugError
from backends.hardware import calibrate
from backends.hardware.detect import detect
from backends.hardware.disk_speed import read_speed
from backends.hardware.types import HardwareSnapshot
from backends.messages import Done, Message, Part, Role, SamplingParams, TextPart
from backends.models.identify import identify
from backends.models.types import ModelInfo, ModuleKind
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.settings import Settings, load_settings
from backends.worker.client import WorkerClient
from backends.worker.environment import child_environment
from backends.worker.logs import tail
from benchmarks.child_memory import Watch, drop_cache, held, library_bytes, limited, reset_peak
from benchmarks.memory_cases import CASES, Case, pictures, tokens_per_word, words
from benchmarks.memory_figures import MIB, Measured, line, rows, untouched
from benchmarks.models import checkpoint
from benchmarks.report import publish

FILE_ROOM = 128 * MIB
# Kept free in the full context: the answer, and what the template writes around a question.
ANSWER_TOKENS, DISK_ANSWER_TOKENS, SPARE_TOKENS = 16, 6, 48


def plan_for(case: Case, model: ModelInfo, machine: HardwareSnapshot, offload: Path) -> Plan:
    """The planner's own plan; which layers lie on the disk is said by hand."""
    overrides = Overrides(precision=case.precision, context_tokens=case.context, images=case.images or None)
    if case.disk:
        layers = [module.name for module in model.modules if module.kind is ModuleKind.LAYER]
        by_hand = [(name, "disk") for name in layers[-case.disk :]]
        rest = [(module.name, "cpu") for module in model.modules if module.name not in dict(by_hand)]
        overrides = replace(overrides, device_map=(*rest, *by_hand))
    if model.vision is not None:
        overrides = replace(overrides, images=case.images)
    request = PlanRequest(str(model.path), Preset.CPU, overrides)
    return plan(machine, model, request, offload_root=str(offload))


def ask(client: WorkerClient, salt: str, parts: Sequence[Part], tokens: int = ANSWER_TOKENS) -> Done:
    """One greedy answer in a conversation of its own."""
    message = Message(Role.USER, tuple(parts))
    task = client.chat(salt, (message,), SamplingParams(temperature=0.0, max_tokens=tokens))
    *_, last = task
    assert isinstance(last, Done)
    return last


def warm_up(client: WorkerClient) -> None:
    """A few words first: what a person's own reading and typing leave the model time to do by itself."""
    ask(client, "warm", [TextPart("What is this?")])


def ask_short(client: WorkerClient, case: Case, folder: Path, rate: float) -> list[Done]:
    """The question that speeds are stated for, of other lengths and with other pictures each time."""
    salts = ("first", "second") if case.disk else ("first", "second", "third")
    return [
        ask(
            client,
            salt,
            [*pictures(case, folder, salt), TextPart(words(44 + 4 * number, rate))],
            length(case),
        )
        for number, salt in enumerate(salts)
    ]


def length(case: Case) -> int:
    """Tokens of an answer: with weights on the disk each takes seconds."""
    return DISK_ANSWER_TOKENS if case.disk else ANSWER_TOKENS


@contextmanager
def child(settings: Settings, salt: str) -> Iterator[WorkerClient]:
    """A fresh worker process."""
    log = settings.home / f"{salt}.log"
    client = WorkerClient("transformers", child_environment(settings), log)
    try:
        yield client
    finally:
        client.close()


def load(client: WorkerClient, found: Plan) -> float:
    """Load; returns the engine's own seconds."""
    task = client.load(found)
    for _ in task:
        pass
    assert task.report is not None
    return task.report.seconds


def filling(case: Case, found: Plan, folder: Path, rate: float, salt: str) -> list[Part]:
    """A question that fills the context."""
    seen = pictures(case, folder, salt)
    room = case.context - case.images * found.image_tokens - ANSWER_TOKENS - SPARE_TOKENS
    return [*seen, TextPart(words(room, rate))]


def measure(
    case: Case, model: ModelInfo, found: Plan, settings: Settings, rate: float, *, timed: bool
) -> Measured:
    """Run the case freely; `timed` also asks the short question that speeds are stated for."""
    ram = next(share for share in found.devices if share.device == "cpu")
    with child(settings, case.name) as client:
        with Watch(client.pid) as loading:
            seconds = load(client, found)
        after = held(client.pid)
        assert after is not None
        # Pages of files that were read and copied are let go of; those in use from the file stay.
        load_peak = loading.anonymous + after.files
        answers: list[Done] = []
        if timed:
            warm_up(client)
            answers += ask_short(client, case, settings.home, rate)
        reset_peak(client.pid)
        # Nobody watches meanwhile: the kernel keeps the peak, and looking takes time from two cores.
        question = filling(case, found, settings.home, rate, "full")
        full = [ask(client, "full", question, length(case))]
        end = held(client.pid)
        assert end is not None
        libraries = library_bytes(client.pid)
        if timed and not case.disk:
            full += [ask(client, "full", question, length(case)) for _ in range(2)]
    first_s = min(done.timings.first_token_s for done in answers) if timed else None
    per_token = [min(1 / done.timings.tokens_per_s for done in some) for some in (full, answers) if some]
    return Measured(
        name=case.name,
        parameters=model.parameters,
        prompt_tokens=full[0].usage.prompt_tokens,
        predicted_peak=ram.total_bytes,
        measured_peak=end.peak,
        predicted_load_peak=found.load_peak_ram_bytes,
        measured_load_peak=load_peak,
        predicted_first_s=found.expected.first_token_s,
        measured_first_s=first_s,
        predicted_tokens_per_s=found.expected.tokens_per_s,
        measured_tokens_per_s=1 / statistics.mean(per_token) if timed else None,
        predicted_load_s=found.expected.load_s,
        measured_load_s=seconds,
        parts={
            "weights": ram.weights_bytes,
            "kv_cache": ram.kv_cache_bytes,
            "activations": ram.activation_bytes,
            "staging": ram.staging_bytes,
            "overhead": ram.overhead_bytes,
        },
        held={
            "load_anonymous": loading.anonymous,
            "loaded_anonymous": after.anonymous,
            "loaded_files": after.files,
            "end_anonymous": end.anonymous,
            "end_files": end.files,
            "libraries": libraries,
            "untouched": untouched(found, ram, end.files - libraries),
        },
    )


def stated(measured: Measured, found: Plan) -> Measured:
    """The same case with the speeds that `found` states."""
    return replace(
        measured,
        predicted_first_s=found.expected.first_token_s,
        predicted_tokens_per_s=found.expected.tokens_per_s,
        predicted_load_s=found.expected.load_s,
    )


def timed_from_disk(case: Case, free: Measured, found: Plan, settings: Settings, rate: float) -> Measured:
    """The speed of weights on the disk: with RAM to spare the system would keep them there.

    Beside what was predicted there is a little for files, as on every machine for which plans are made: at
    the very limit the system takes pages of mapped weights and libraries back in every pass. (Libraries are
    charged to the process that loaded them first, which is not this one.)
    """
    drop_cache(Path(found.model_path))
    limit = free.predicted_peak - free.held["libraries"] + FILE_ROOM
    with child(settings, f"{case.name}-disk") as client, limited(client.pid, limit):
        load(client, found)
        warm_up(client)
        timings = [done.timings for done in ask_short(client, case, settings.home, rate)]
    return replace(
        free,
        measured_first_s=min(one.first_token_s for one in timings),
        measured_tokens_per_s=max(one.tokens_per_s for one in timings),
    )


def run_limited(case: Case, free: Measured, found: Plan, settings: Settings, rate: float) -> Measured:
    """Run the case once more with no more RAM than predicted.

    Pages of libraries that another process has loaded already are charged to that one; the limit is lowered
    by as much, so that the child has exactly what the plan says.
    """
    drop_cache(Path(found.model_path))
    nbytes = max(free.predicted_peak, free.predicted_load_peak) - free.held["libraries"]
    means, finished = None, False
    with ExitStack() as stack:
        client = stack.enter_context(child(settings, f"{case.name}-limited"))
        means = stack.enter_context(limited(client.pid, nbytes))
        try:
            load(client, found)
            ask(client, "full", filling(case, found, settings.home, rate, "limited"), length(case))
            finished = True
        except SnugError as error:
            print(f"{case.name}: {error}")
        client.close()
    return replace(free, limit=means, finished=finished)


def calibrated(machine: HardwareSnapshot, settings: Settings, model: Path | None) -> calibrate.Calibration:
    """How fast it is now, and the disk at reading `model`, where one is given."""
    measured = calibrate.measure_apart(machine, child_environment(settings))
    files = sorted(model.glob("*.safetensors")) if model is not None else []
    rates = [(file.stat().st_size, read_speed(file)) for file in files]
    known = [(size, rate) for size, rate in rates if rate is not None]
    if known:
        seconds = sum(size / rate for size, rate in known)
        measured = replace(measured, disk_gbps=round(sum(size for size, _ in known) / seconds, 3))
    print(measured, flush=True)
    return measured


def best(before: calibrate.Calibration, after: calibrate.Calibration) -> calibrate.Calibration:
    """Of each figure the better one, as of each case the best question is taken."""
    return calibrate.merged(before, replace(after, crowded=True))


def run_all(
    chosen: Sequence[Case], settings: Settings, options: argparse.Namespace
) -> tuple[list[Measured], list[str]]:
    """Run the cases, shape by shape: a checkpoint lives no longer than it is needed."""
    found: list[Measured] = []
    failed: list[str] = []
    timed, rate = not options.memory_only, tokens_per_word()
    for shape in dict.fromkeys(case.shape for case in chosen):
        path = checkpoint(shape, options.keep or settings.home)
        for case in (case for case in chosen if case.shape == shape):
            machine = replace(detect(settings.home), gpus=())
            model = identify(path)
            # Before and after every case: what a shared machine gives changes within minutes.
            read = path if case.disk else None
            before = calibrated(machine, settings, read) if timed else None
            decided = plan_for(case, model, machine, settings.home / "offload")
            try:
                one = measure(case, model, decided, settings, rate, timed=timed)
                if case.disk and timed:
                    one = timed_from_disk(case, one, decided, settings, rate)
                if before is not None:
                    speeds = calibrate.apply(machine, best(before, calibrated(machine, settings, read)))
                    one = stated(one, plan_for(case, model, speeds, settings.home / "offload"))
            except SnugError as error:
                print(f"{case.name}: {error}\n{tail(settings.home / f'{case.name}.log')}", flush=True)
                failed.append(case.name)
                continue
            if not options.no_limit:
                one = run_limited(case, one, decided, settings, rate)
            found.append(one)
            print(line(one), flush=True)
        if options.keep is None:
            shutil.rmtree(path)
    return found, failed


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="run the cases whose names contain this; publishes nothing")
    parser.add_argument("--no-limit", action="store_true", help="leave the second runs out")
    parser.add_argument(
        "--memory-only", action="store_true", help="leave the questions out that time is taken of"
    )
    parser.add_argument("--keep", type=Path, help="keep the checkpoints in this folder")
    options = parser.parse_args()
    chosen = [case for case in CASES if not options.only or options.only in case.name]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="snug-bench-", ignore_cleanup_errors=True) as temporary:
        settings = replace(load_settings({}), home=Path(temporary))
        found, failed = run_all(chosen, settings, options)
    details = {
        "minutes": (time.perf_counter() - begun) / 60,
        "failed": failed,
        "cases": [asdict(one) for one in found],
    }
    if options.only or options.no_limit or options.memory_only:
        print(json.dumps(details, indent=1))
    else:
        publish("memory_cpu", rows(found, len(failed)), details)


if __name__ == "__main__":
    main()
