"""Comparing the installed library with transformers: the choice, its record, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from backends.conversion.cache import stem
from backends.conversion.layouts import Compared, best, library_version, read
from backends.conversion.types import Layout, Request, WeightType
from backends.engines.llamacpp import layout as layouts
from backends.engines.llamacpp import probe
from backends.engines.llamacpp.layout import choose, choose_for_library
from backends.engines.llamacpp.probe import Probe, ProbeFailedError, run
from backends.errors import Cancelled
from backends.messages import Progress
from backends.settings import load_settings
from tests.support import tiny_models


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="module")
def starters(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Layout, float]:
    """Gaps of the bundled model's tower."""
    scratch = tmp_path_factory.mktemp("scratch")
    found = run(Probe(load_settings({}).starter, scratch, WeightType.F32, 2), lambda _: None, Flag())
    assert list(scratch.glob("*.gguf")) == [] or all("mmproj" not in path.name for path in scratch.iterdir())
    return found


def test_a_right_layout_is_told_from_a_wrong_one(starters: Mapping[Layout, float]) -> None:
    """On a library that misplaces the class token, and on one that does not."""
    assert set(starters) == set(Layout)
    chosen = best(starters)
    wrong = Layout.PLAIN if chosen is not Layout.PLAIN else Layout.ROTATED
    assert starters[wrong] > 3 * starters[chosen]


def test_a_choice_is_made_once_for_a_model_and_a_version(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(llava, tmp_path / "cache")
    heard: list[Progress] = []
    choice = choose(request, heard.append, Flag())
    assert choice.compared is Compared.MODEL
    assert choice.library == library_version()
    assert set(choice.gaps) == {layout.value for layout in Layout}
    assert choice.gaps[choice.layout] <= 1.1 * min(choice.gaps.values())
    assert {progress.stage for progress in heard} == {"comparing"}
    assert (heard[-1].done, heard[-1].total) == (4, 4)
    assert read(request.cache, stem(request.folder), library_version()) == choice
    assert not (request.cache / "comparing").exists()

    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(layouts, "run", never)
    assert choose(request, lambda _: None, Flag()) == choice
    monkeypatch.setattr(layouts, "library_version", lambda: "another")
    with pytest.raises(AssertionError):
        choose(request, lambda _: None, Flag())


def broken(tmp_path: Path, llava: Path) -> Path:
    """Transformers refuses it, while its headers are in order."""
    folder = shutil.copytree(llava, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    del weights["multi_modal_projector.linear_2.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_where_comparing_fails_the_librarys_answer_stands_in(llava: Path, tmp_path: Path) -> None:
    request = Request(broken(tmp_path, llava), tmp_path / "cache")
    choice = choose(request, lambda _: None, Flag())
    assert choice.compared is Compared.LIBRARY
    of_library = choose_for_library(request.cache, lambda _: None, Flag())
    assert (choice.layout, choice.gaps) == (of_library.layout, of_library.gaps)
    assert read(request.cache, stem(request.folder), library_version()) == choice


def test_a_comparison_that_failed_is_made_again(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, real = Request(llava, tmp_path / "cache"), run

    def fails_on_models(probe: Probe, *more: Any) -> Mapping[Layout, float]:
        if probe.folder is not None:
            raise ProbeFailedError("no memory just now")
        return real(probe, *more)

    monkeypatch.setattr(layouts, "run", fails_on_models)
    assert choose(request, lambda _: None, Flag()).compared is Compared.LIBRARY
    monkeypatch.setattr(layouts, "run", real)
    again = choose(request, lambda _: None, Flag())
    assert again.compared is Compared.MODEL
    assert read(request.cache, stem(request.folder), library_version()) == again


def test_where_nothing_can_be_compared_it_is_said(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_MODULE", "backends.no_such_module")
    request = Request(llava, tmp_path / "cache")
    choice = choose(request, lambda _: None, Flag())
    assert (choice.layout, choice.gaps, choice.compared) == (Layout.NO_CLASS, {}, Compared.NOTHING)
    assert read(request.cache, stem(request.folder), library_version()) is None, "it was no comparison"


def test_calling_off_ends_the_process_at_once(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []
    start = probe._start
    monkeypatch.setattr(probe, "_start", lambda: started.append(start()) or started[-1])  # type: ignore[func-returns-value]
    cancel = Flag()
    threading.Timer(0.3, cancel.set).start()
    begun = time.monotonic()
    with pytest.raises(Cancelled):
        choose(Request(llava, tmp_path / "cache"), lambda _: None, cancel)
    assert time.monotonic() - begun < 30
    assert started[0].poll() is not None
    assert not (tmp_path / "cache" / "comparing").exists()


def test_the_process_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    process = probe._start()
    assert process.stdin is not None
    process.stdin.write("{")
    process.stdin.close()
    assert process.wait(60) is not None
    assert process.stdout is not None
    process.stdout.close()


def test_what_an_ended_process_left_is_removed(llava: Path, tmp_path: Path) -> None:
    left = tmp_path / "cache" / "comparing" / "plain.gguf"
    left.parent.mkdir(parents=True)
    left.write_bytes(os.urandom(100))
    choose(Request(llava, tmp_path / "cache"), lambda _: None, Flag())
    assert not left.exists()


def test_a_job_that_makes_no_sense_is_an_error_of_the_probe(tmp_path: Path) -> None:
    with pytest.raises(ProbeFailedError):
        run(Probe(tmp_path / "nothing", tmp_path, WeightType.F16, 1), lambda _: None, Flag())
