"""How fast the engine answers: decoding against the bare model, first tokens with and without reuse.

A random-weight LLaVA of about 0.5 billion parameters; every comparison alternates within one run, and the
quoted figure is the median of the rounds' ratios.

    python -m benchmarks.engine_speed FOLDER [--rounds 5] [--tokens 24] [--precision bf16]
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event as Flag

import torch
from PIL import Image
from transformers import DynamicCache, LlavaForConditionalGeneration

from backends.engines.base import ChatRequest
from backends.engines.transformers_engine import TransformersEngine
from backends.messages import Done, ImagePart, Message, Role, SamplingParams, TextDelta, TextPart
from benchmarks.models import HALF_BILLION, checkpoint
from benchmarks.report import Row, publish
from tests.support.plans import make_plan

DECODE_GOAL, PRIMED_GOAL, FOLLOW_UP_GOAL = 0.97, 0.30, 0.25
QUESTION = "How many people in this picture are wearing something red?"


def draw(folder: Path, number: int) -> ImagePart:
    """A new picture, so that nothing of it can be cached."""
    path = folder / f"{number}.png"
    Image.effect_noise((400, 300), 10 + number).convert("RGB").save(path)
    return ImagePart(path, hashlib.sha256(path.read_bytes()).hexdigest(), 400, 300)


def ask(
    engine: TransformersEngine, messages: Sequence[Message], conversation: str, tokens: int
) -> tuple[Done, str]:
    """One greedy answer."""
    request = ChatRequest(conversation, messages, SamplingParams(temperature=0.0, max_tokens=tokens))
    text = ""
    for event in engine.chat(request, Flag()):
        if isinstance(event, TextDelta):
            text += event.text
        if isinstance(event, Done):
            return event, text
    raise AssertionError("an answer ends with Done")


@torch.inference_mode()
def bare_loop(model: torch.nn.Module, ids: Sequence[int], tokens: int) -> float:
    """Tokens per second of the shortest loop that decodes greedily: forward, argmax, forward."""
    kv = DynamicCache(config=model.config)
    logits = model(input_ids=torch.tensor([list(ids)]), past_key_values=kv, logits_to_keep=1).logits
    token = int(logits[0, -1].argmax())
    begun = time.perf_counter()
    for _ in range(tokens - 1):
        logits = model(input_ids=torch.tensor([[token]]), past_key_values=kv, logits_to_keep=1).logits
        token = int(logits[0, -1].argmax())
    return (tokens - 1) / (time.perf_counter() - begun)


class Stamps:
    """A streamer that notes when each token of `generate` comes."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: object) -> None:
        """Note the time of one token."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing to flush."""


def generate(model: LlavaForConditionalGeneration, ids: Sequence[int], tokens: int) -> float:
    """Tokens per second of `model.generate`; its first call of the streamer hands over the prompt."""
    stamps = Stamps()
    model.generate(
        input_ids=torch.tensor([list(ids)]), do_sample=False, max_new_tokens=tokens, streamer=stamps
    )
    made = stamps.times[1:]
    return (len(made) - 1) / (made[-1] - made[0])


def decoding(engine: TransformersEngine, rounds: int, tokens: int) -> dict[str, list[float]]:
    """Tokens per second of the engine and of two direct ways, for the same prompt of text."""
    model = engine._path._runner._model  # type: ignore[union-attr]  # noqa: SLF001
    messages = [Message(Role.USER, (TextPart(QUESTION),))]
    ids = engine._path._builder.build(messages).ids  # type: ignore[union-attr]  # noqa: SLF001
    ways: dict[str, Callable[[], float]] = {
        "engine": lambda: ask(engine, messages, "speed", tokens)[0].timings.tokens_per_s,
        "bare loop": lambda: bare_loop(model, ids, tokens),
        "generate": lambda: generate(model, ids, tokens),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name in ways if round_ % 2 else reversed(ways):
            speed = ways[name]()
            if round_:
                found[name].append(speed)
    return found


def first_tokens(engine: TransformersEngine, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds to the first token: of a new picture, of a primed one, and of a follow-up question."""
    found: dict[str, list[float]] = {"cold": [], "primed": [], "follow-up": []}
    for round_ in range(rounds + 1):
        one, other = draw(folder, 2 * round_), draw(folder, 2 * round_ + 1)
        first = [Message(Role.USER, (one, TextPart(QUESTION)))]
        cold, text = ask(engine, first, f"cold {round_}", 24)
        again = [
            *first,
            Message(Role.ASSISTANT, (TextPart(text),)),
            Message(Role.USER, (TextPart("And blue?"),)),
        ]
        follow_up, _ = ask(engine, again, f"cold {round_}", 2)
        engine.prime(f"primed {round_}", [Message(Role.USER, (other, TextPart("")))], Flag())
        primed, _ = ask(engine, [Message(Role.USER, (other, TextPart(QUESTION)))], f"primed {round_}", 2)
        if round_:
            found["cold"].append(cold.timings.first_token_s)
            found["follow-up"].append(follow_up.timings.first_token_s)
            found["primed"].append(primed.timings.first_token_s)
    return found


def _ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--precision", default="bf16")
    options = parser.parse_args()
    engine = TransformersEngine()
    plan = make_plan(
        checkpoint(HALF_BILLION, options.folder), precision=options.precision, context_tokens=2048
    )
    engine.load(plan, lambda _: None, Flag())
    speeds = decoding(engine, 2 * options.rounds, options.tokens)
    with tempfile.TemporaryDirectory() as folder:
        firsts = first_tokens(engine, options.rounds, Path(folder))
    engine.close()
    middle = {name: statistics.median(values) for name, values in (speeds | firsts).items()}
    bare, made = (_ratio(speeds["engine"], speeds[name]) for name in ("bare loop", "generate"))
    primed, follow_up = (_ratio(firsts[name], firsts["cold"]) for name in ("primed", "follow-up"))
    rows = [
        Row("0.5 B LLaVA, model called directly", f"{middle['bare loop']:.1f} tokens/s"),
        Row("the same with `generate`", f"{middle['generate']:.1f} tokens/s"),
        Row(
            "the same through the engine",
            f"{middle['engine']:.1f} tokens/s, {bare:.2f} x direct, {made:.2f} x generate",
            f">= {DECODE_GOAL} x",
            bare >= DECODE_GOAL,
        ),
        Row("first token, new picture (576 image tokens)", f"{middle['cold']:.2f} s"),
        Row(
            "first token, picture prefilled while typing",
            f"{middle['primed']:.2f} s, {primed:.0%} of cold",
            f"<= {PRIMED_GOAL:.0%}",
            primed <= PRIMED_GOAL,
        ),
        Row(
            "first token, follow-up question",
            f"{middle['follow-up']:.2f} s, {follow_up:.0%} of cold",
            f"<= {FOLLOW_UP_GOAL:.0%}",
            follow_up <= FOLLOW_UP_GOAL,
        ),
    ]
    publish("engine_speed", rows, {"precision": options.precision, "rounds": {**speeds, **firsts}})


if __name__ == "__main__":
    main()
