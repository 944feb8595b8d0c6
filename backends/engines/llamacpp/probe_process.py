"""Compares: transformers first, then the library with each layout, one after the other."""

from __future__ import annotations

import gc
import math
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from backends.conversion.checkpoint import Checkpoint, open_checkpoint
from backends.conversion.convert import convert
from backends.conversion.types import Document, Layout, Request, WeightType
from backends.conversion.writer import write_document
from backends.engines.heap import give_gaps_back
from backends.engines.llamacpp.library import load_library
from backends.engines.llamacpp.pictures import data_url
from backends.engines.llamacpp.probe_model import Asked, Reference, words, write_tiny_checkpoint
from backends.engines.llamacpp.requests import request, with_probabilities
from backends.engines.llamacpp.server import Server, ServerSettings
from backends.messages import SamplingParams

# Two pictures, and every letter of a text behind them: the first word tells little.
_ASKED = (Asked("snug", "answer"), Asked("look", "whatisit"))
_SPARE_TOKENS = 64
_ROWS = 512
# The likely ones first; a layout that is so many times worse than another is not the right one.
_ORDER = (Layout.NO_CLASS, Layout.PLAIN, Layout.ROTATED)
_HOPELESS = 5.0
# What a word gets that the library does not list.
_UNLIKELY = -30.0


@dataclass(frozen=True, slots=True)
class _Truth:
    """What transformers says: log-probabilities by picture, by position behind it, by word."""

    said: list[list[list[float]]]
    pictures: list[Image.Image]
    tokens: int


def compare(job: Mapping[str, Any], tell: Callable[[Mapping[str, object]], None]) -> dict[str, float]:
    """The gap of each layout for a job (see `probe_start`); `tell` is called with the steps that are done."""
    scratch, kind = Path(job["scratch"]), WeightType(job["vision_kind"])
    total = 1 + len(Layout)
    tell({"done": 0, "total": total})
    if job["folder"] is None:
        folder = scratch / "tiny"
        write_tiny_checkpoint(folder)
    else:
        folder = Path(job["folder"])
    checkpoint = open_checkpoint(folder)
    plain = checkpoint.picture_document(Layout.PLAIN, kind)
    truth = _truth(folder, scratch / "language", plain.values, threads=job["threads"])
    gc.collect()
    give_gaps_back()
    tell({"done": 1, "total": total})
    never = threading.Event()
    text = convert(Request(scratch / "language", scratch, WeightType.F32), lambda *_: None, never).text
    gaps: dict[str, float] = {}
    for layout in _ORDER:
        mmproj = scratch / f"{layout.value}.gguf"
        document = checkpoint.picture_document(layout, kind)
        _write(checkpoint, document, mmproj, threads=job["threads"])
        limit = _HOPELESS * min(gaps.values(), default=math.inf)
        gaps[layout.value] = _gap(truth, text, mmproj, limit=limit, threads=job["threads"])
        mmproj.unlink(missing_ok=True)
        tell({"done": 1 + len(gaps), "total": total})
    shutil.rmtree(scratch / "language", ignore_errors=True)
    return gaps


def _write(checkpoint: Checkpoint, document: Document, path: Path, *, threads: int) -> None:
    write_document(
        document,
        checkpoint.folder,
        checkpoint.tensors,
        path,
        threads=threads,
        report=lambda _: None,
        cancel=threading.Event(),
        durable=False,
    )


def _truth(folder: Path, language: Path, values: Mapping[str, Any], *, threads: int) -> _Truth:
    """Ask transformers. Its memory comes free when this returns."""
    reference = Reference(folder, threads)
    reference.write_language_model(language)
    pictures = [picture(reference.side, seed) for seed in range(len(_ASKED))]
    mean, std = values["clip.vision.image_mean"], values["clip.vision.image_std"]
    said = [
        reference.log_probabilities(image, mean, std, asked)
        for image, asked in zip(pictures, _ASKED, strict=True)
    ]
    return _Truth(said, pictures, reference.patches)


def picture(side: int, seed: int) -> Image.Image:
    """A scene of soft colours with shapes on it, the same for the same seed."""
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 256, (5, 5, 3), np.uint8))
    image = coarse.resize((side, side), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        left, top = (int(at) for at in chance.integers(0, side, 2))
        width, height = (int(length) for length in chance.integers(side // 8, side // 2, 2))
        color = tuple(int(part) for part in chance.integers(0, 256, 3))
        shape = pen.ellipse if chance.random() < 0.5 else pen.rectangle
        shape((left, top, left + width, top + height), fill=color)
    return image


def _gap(truth: _Truth, text: Path, mmproj: Path, *, limit: float, threads: int) -> float:
    """Mean divergence of what the library says from what transformers says, in nats.

    A picture takes a large tower seconds: what is beyond `limit` after one is not shown another.
    """
    settings = ServerSettings(
        text=text,
        mmproj=mmproj,
        context_tokens=truth.tokens + _SPARE_TOKENS,
        threads=threads,
        rows=_ROWS,
        exact=True,
    )
    server = Server(load_library(), settings)
    found: list[float] = []
    try:
        for said, image, asked in zip(truth.said, truth.pictures, _ASKED, strict=True):
            url = data_url(image)
            for end, expected in enumerate(said, start=1):
                heard = _ask(server, asked.before, url, asked.after[:end])
                found.append(divergence(expected, heard))
            if sum(found) / len(found) > limit:
                break
    finally:
        server.close()
    return sum(found) / len(found)


def _ask(server: Server, before: str, url: str, after: str) -> list[float]:
    """Log-probabilities of the word that follows."""
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": before},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": after},
    ]
    body = with_probabilities(request(parts, SamplingParams(temperature=0.0, max_tokens=1)), words())
    listed: list[dict[str, Any]] = []

    def hear(chunk: dict[str, Any]) -> bool:
        for choice in chunk.get("choices") or ():
            for token in (choice.get("logprobs") or {}).get("content") or ():
                listed.extend(token["top_logprobs"])
        return False

    server.ask(body, hear)
    if not listed:
        raise ValueError("the library told no probabilities")
    found = [_UNLIKELY] * words()
    for token in listed:
        found[token["id"]] = max(_UNLIKELY, token["logprob"])
    return found


def divergence(expected: Sequence[float], heard: Sequence[float]) -> float:
    """Kullback-Leibler divergence of two distributions that are given as log-probabilities, in nats."""
    return sum(math.exp(true) * (true - other) for true, other in zip(expected, heard, strict=True))
