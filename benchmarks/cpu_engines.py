"""llama.cpp beside transformers on this machine's CPU: a 1.1 B LLaVA shape, pictures of 576 tokens.

Every engine answers from a process of its own, all of them are loaded at once, and they take turns: a new
picture, then a second question about it. What the machine does besides hits all of them alike, so the ratios
are quoted (medians of the rounds' ratios). What concerns Q8_0 alone is measured with the others gone.
transformers runs as it is, and once more held to AVX2, which is what most machines without a GPU have: the
recipe that Snug replaces is bf16, and without instructions for it bf16 is emulated.

    python -m benchmarks.cpu_engines FOLDER [--rounds 5] [--tokens 48]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event as Flag

from PIL import Image

from backends.conversion.convert import convert
from backends.conversion.types import Layout, Request
from backends.hardware import calibrate
from backends.hardware.detect import detect
from backends.messages import Done, ImagePart, Message, Role, SamplingParams, TextDelta, TextPart
from backends.models.gguf_header import read_gguf_header
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings, load_settings
from backends.worker.client import WorkerClient
from backends.worker.environment import child_environment
from benchmarks.child_memory import held, reset_peak
from benchmarks.direct_llama import Direct
from benchmarks.models import Shape, checkpoint
from benchmarks.report import Row, publish

SHAPE = Shape("llava-1.1b", 2048, 5632, 22, 32, kv_heads=4)
CONTEXT = 2048
# The goals: times, shares, MB/s, seconds, MB.
FASTER, SOONER, AGAIN, DIRECT, BANDWIDTH = 4.5, 4.0, 0.15, 0.97, 0.85
CONVERSION, LOAD_S, BEYOND_MB = 150.0, 2.0, 500.0
QUESTION = "How many people in this picture are wearing something red?"
# What an AVX2 machine's transformers can use: torch's own kernels, oneDNN's and MKL's.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run the model."""

    name: str
    engine: str
    precision: str
    environment: tuple[tuple[str, str], ...] = ()


RECIPE = Contender("transformers bf16, AVX2 only", "transformers", "bf16", tuple(AVX2.items()))
BF16 = Contender("transformers bf16", "transformers", "bf16")
FP32 = Contender("transformers fp32", "transformers", "fp32")
Q8_0 = Contender("llama.cpp Q8_0", "llamacpp", "q8_0")
Q4_0 = Contender("llama.cpp Q4_0", "llamacpp", "q4_0")
F16 = Contender("llama.cpp F16", "llamacpp", "f16")
CONTENDERS = (RECIPE, BF16, FP32, Q8_0, Q4_0, F16)


@dataclass(frozen=True, slots=True)
class Options:
    """How often, and how many tokens an answer has."""

    rounds: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds to the first word of a new picture and of a second question, tokens a second of the answers."""

    first_s: float
    second_s: float
    tokens_per_s: float


def plan_for(contender: Contender, folder: Path, service: Service) -> Plan:
    """Snug's own plan for this engine and precision."""
    overrides = Overrides(
        engine=contender.engine,  # type: ignore[arg-type]
        precision=contender.precision,
        context_tokens=CONTEXT,
        images=1,
    )
    return service.plan(PlanRequest(str(folder), Preset.CPU, overrides))


@contextmanager
def start(contender: Contender, settings: Settings) -> Iterator[WorkerClient]:
    """A process for one contender."""
    environment = child_environment(settings) | dict(contender.environment)
    client = WorkerClient(contender.engine, environment, settings.home / f"{contender.name}.log")
    try:
        yield client
    finally:
        client.close()


def load(client: WorkerClient, plan: Plan) -> float:
    """Load; returns the engine's own seconds."""
    task = client.load(plan)
    for _ in task:
        pass
    assert task.report is not None
    return task.report.seconds


def ask(
    client: WorkerClient, conversation: str, messages: Sequence[Message], tokens: int
) -> tuple[Done, str]:
    """One greedy answer."""
    text = ""
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens)
    for event in client.chat(conversation, tuple(messages), sampling):
        if isinstance(event, TextDelta):
            text += event.text
        if isinstance(event, Done):
            return event, text
    raise AssertionError("an answer ends with Done")


def draw(folder: Path, name: str) -> ImagePart:
    """A new picture, so that nothing of it can be cached."""
    path = folder / f"{name}.png"
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:4], 16)
    Image.effect_noise((336, 336), 10 + seed % 90).convert("RGB").save(path)
    return ImagePart(path, hashlib.sha256(path.read_bytes()).hexdigest(), 336, 336)


def take_turn(client: WorkerClient, folder: Path, name: str, tokens: int) -> Turn:
    """A new picture, and a second question about it."""
    first = [Message(Role.USER, (draw(folder, name), TextPart(QUESTION)))]
    new, text = ask(client, name, first, tokens)
    again = [
        *first,
        Message(Role.ASSISTANT, (TextPart(text),)),
        Message(Role.USER, (TextPart("And blue?"),)),
    ]
    more, _ = ask(client, name, again, 2)
    return Turn(new.timings.first_token_s, more.timings.first_token_s, new.timings.tokens_per_s)


def text_speed(client: WorkerClient, name: str, tokens: int) -> float:
    """Tokens a second after a question without a picture, as the library is asked directly."""
    return ask(client, name, [Message(Role.USER, (TextPart(QUESTION),))], tokens)[0].timings.tokens_per_s


def conversion_speed(folder: Path, cache: Path) -> float:
    """Bytes of source weights a second to Q8_0, from the system's cache, as after a download."""
    source = 0
    for path in folder.glob("*.safetensors"):
        source += path.stat().st_size
        with path.open("rb") as stream:
            while stream.read(1 << 24):
                pass
    begun = time.perf_counter()
    convert(Request(folder, cache, layout=Layout.NO_CLASS), lambda *_: None, Flag())
    return source / (time.perf_counter() - begun)


def decoded_bytes(text: Path) -> int:
    """Bytes of weights that every token reads: all but the table of words, of which it reads a row."""
    tensors = read_gguf_header(text).tensors
    return sum(tensor.nbytes for tensor in tensors if not tensor.name.startswith("token_embd"))


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def turn_rows(turns: Mapping[str, Sequence[Turn]]) -> Iterator[Row]:
    """A row for every contender."""
    for name, taken in turns.items():
        first = statistics.median(turn.first_s for turn in taken)
        second = statistics.median(turn.second_s for turn in taken)
        speed = statistics.median(turn.tokens_per_s for turn in taken)
        yield Row(
            name, f"{speed:.1f} tokens/s; first word after {first:.2f} s, of a second question {second:.2f} s"
        )


def compared_rows(turns: Mapping[str, Sequence[Turn]]) -> Iterator[Row]:
    """Q8_0 beside transformers' bf16, and a second question beside the first."""
    mine = turns[Q8_0.name]
    for other, is_goal in ((RECIPE, True), (BF16, False)):
        theirs = turns[other.name]
        faster = ratio([turn.tokens_per_s for turn in mine], [turn.tokens_per_s for turn in theirs])
        sooner = ratio([turn.first_s for turn in theirs], [turn.first_s for turn in mine])
        yield _row(f"decoding, Q8_0 beside {other.name}", f"{faster:.1f} x", FASTER, faster, is_goal=is_goal)
        yield _row(
            f"first word of a new picture, Q8_0 beside {other.name}",
            f"{sooner:.1f} x sooner",
            SOONER,
            sooner,
            is_goal=is_goal,
        )
    again = ratio([turn.second_s for turn in mine], [turn.first_s for turn in mine])
    yield Row(
        "first word of a second question, Q8_0",
        f"{again:.0%} of the first's",
        f"<= {AGAIN:.0%}",
        again <= AGAIN,
    )


def _row(measure: str, value: str, goal: float, found: float, *, is_goal: bool) -> Row:
    return Row(measure, value, f">= {goal:g} x" if is_goal else None, found >= goal if is_goal else None)


@dataclass(frozen=True, slots=True)
class Alone:
    """Q8_0 by itself: rounds of the engine, of the library, and of the memory (GB/s); bytes and seconds."""

    engine: list[float]
    library: list[float]
    memory_gbps: list[float]
    read_bytes: int
    converted_bytes_per_s: float
    load_s: float
    peak_bytes: int
    file_bytes: int
    cache_bytes: int


def alone_rows(found: Alone) -> Iterator[Row]:
    """What one model takes and gives."""
    beside = ratio(found.engine, found.library)
    yield Row("decoding, engine beside the library", f"{beside:.2f} x", f">= {DIRECT} x", beside >= DIRECT)
    shares = [
        speed * found.read_bytes / (gbps * 1e9)
        for speed, gbps in zip(found.engine, found.memory_gbps, strict=True)
    ]
    share = statistics.median(shares)
    rate = statistics.median(found.engine) * found.read_bytes / 1e9
    yield Row(
        "weights read while decoding, of what the memory gives",
        f"{share:.0%} ({rate:.1f} of {statistics.median(found.memory_gbps):.1f} GB/s)",
        f">= {BANDWIDTH:.0%}",
        share >= BANDWIDTH,
    )
    speed = found.converted_bytes_per_s / 1e6
    yield Row(
        "converting to Q8_0", f"{speed:.0f} MB/s of weights", f">= {CONVERSION:.0f} MB/s", speed >= CONVERSION
    )
    gigabytes = found.file_bytes / 1e9
    yield Row(
        f"loading {gigabytes:.1f} GB from the cache",
        f"{found.load_s:.1f} s",
        f"<= {LOAD_S:g} s",
        found.load_s <= LOAD_S,
    )
    more = (found.peak_bytes - found.file_bytes - found.cache_bytes) / 1e6
    yield Row(
        "RSS while answering, beyond files and KV cache",
        f"{more:.0f} MB",
        f"<= {BEYOND_MB:.0f} MB",
        more <= BEYOND_MB,
    )


def alone(
    client: WorkerClient, settings: Settings, plan: Plan, *, load_s: float, rate: float, options: Options
) -> Alone:
    """Measure what concerns Q8_0 only; the library's own model comes last, its memory counts for nobody."""
    assert plan.conversion is not None
    files = [path for path in settings.converted.glob("*.gguf") if "f16" in path.name or "q8_0" in path.name]
    text = next(path for path in files if path.name.endswith("-q8_0.gguf"))
    reset_peak(client.pid)
    take_turn(client, settings.home, "memory", options.tokens)
    memory = held(client.pid)
    assert memory is not None
    used = [text, *(path for path in files if "-mmproj-" in path.name)]
    machine = replace(detect(settings.home), gpus=())
    engine, library, gbps = [], [], []
    with Direct(text, CONTEXT, os.cpu_count() or 1) as direct:
        for round_ in range(options.rounds + 1):
            one = text_speed(client, f"text {round_}", options.tokens)
            other = direct.tokens_per_s(QUESTION, options.tokens)
            reading = calibrate.measure_apart(machine, child_environment(settings)).ram_gbps
            if round_:
                engine.append(one)
                library.append(other)
                gbps.append(reading)
    (ram,) = (share for share in plan.devices if share.device == "cpu")
    return Alone(
        engine=engine,
        library=library,
        memory_gbps=gbps,
        read_bytes=decoded_bytes(text),
        converted_bytes_per_s=rate,
        load_s=load_s,
        peak_bytes=memory.peak,
        file_bytes=sum(path.stat().st_size for path in used),
        cache_bytes=ram.kv_cache_bytes,
    )


def run(folder: Path, settings: Settings, options: Options) -> tuple[dict[str, list[Turn]], Alone]:
    """All contenders in turns, then Q8_0 by itself."""
    rate = conversion_speed(folder, settings.home / "alone")
    shutil.rmtree(settings.home / "alone")
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in CONTENDERS}
    with Service(settings, preload=False) as service, ExitStack() as stack:
        clients: dict[str, WorkerClient] = {}
        for contender in CONTENDERS:
            plan = plan_for(contender, folder, service)
            if contender is Q8_0:  # its files are made by a process of their own, then loaded by a fresh one
                with start(contender, settings) as maker:
                    load(maker, plan)
            client = clients[contender.name] = stack.enter_context(start(contender, settings))
            seconds = load(client, plan)
            if contender is Q8_0:
                planned, load_s = plan, seconds
            print(f"{contender.name}: loaded in {seconds:.1f} s", flush=True)
        for round_ in range(options.rounds + 1):
            for name, client in clients.items():
                turn = take_turn(client, settings.home, f"{round_} {name}", options.tokens)
                print(f"{round_} {name}: {turn}", flush=True)
                if round_:
                    turns[name].append(turn)
        for name, client in clients.items():
            if name != Q8_0.name:
                client.close()
        return turns, alone(clients[Q8_0.name], settings, planned, load_s=load_s, rate=rate, options=options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48)
    given = parser.parse_args()
    folder = checkpoint(SHAPE, given.folder)
    with tempfile.TemporaryDirectory(prefix="snug-bench-") as home:
        settings = load_settings({"SNUG_HOME": home})
        settings.home.mkdir(parents=True, exist_ok=True)
        turns, by_itself = run(folder, settings, Options(given.rounds, given.tokens))
    rows = [*turn_rows(turns), *compared_rows(turns), *alone_rows(by_itself)]
    rounds = {name: [asdict(turn) for turn in taken] for name, taken in turns.items()}
    publish("cpu_engines", rows, {"turns": rounds, "q8_0": asdict(by_itself)})


if __name__ == "__main__":
    main()
