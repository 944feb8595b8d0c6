"""Records of comparisons: kept for a checkpoint and a version of the library."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.conversion.cache import clear, entries, stem
from backends.conversion.layouts import LIBRARY, Choice, Compared, best, library_version, read, write
from backends.conversion.types import Layout
from tests.backends.conversion.conftest import Folder

CHOICE = Choice(Layout.ROTATED, "1.2", {"plain": 0.5, "rotated": 0.25, "no_class": 1.0}, Compared.LIBRARY)


def test_a_record_is_read_for_its_checkpoint_and_version_only(checkpoint: Folder, tmp_path: Path) -> None:
    request, other = stem(checkpoint("llava")), stem(checkpoint("llama"))
    write(tmp_path, request, CHOICE)
    assert read(tmp_path, request, "1.2") == CHOICE
    assert read(tmp_path, request, "1.3") is None
    assert read(tmp_path, other, "1.2") is None
    assert read(tmp_path, LIBRARY, "1.2") is None
    write(tmp_path, LIBRARY, CHOICE)
    assert read(tmp_path, LIBRARY, "1.2") == CHOICE
    # They are no converted files, and go with these.
    assert entries(tmp_path) == ()
    assert clear(tmp_path) > 0
    assert read(tmp_path, request, "1.2") is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"layout": "odd", "library": "1.2"}', '{"gaps": 3}', "null"]
)
def test_a_broken_record_is_none(tmp_path: Path, content: str) -> None:
    write(tmp_path, LIBRARY, CHOICE)
    (path,) = tmp_path.iterdir()
    path.write_text(content, encoding="utf-8")
    assert read(tmp_path, LIBRARY, "1.2") is None


def test_a_folder_that_takes_nothing_costs_the_record_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    write(tmp_path / "file", LIBRARY, CHOICE)
    assert read(tmp_path / "file", LIBRARY, "1.2") is None


@pytest.mark.parametrize(
    ("plain", "rotated", "no_class", "expected"),
    [
        (0.3, 0.02, 0.001, Layout.NO_CLASS),
        (0.3, 0.001, 0.02, Layout.ROTATED),
        (0.000001, 0.3, 0.02, Layout.PLAIN),
        (0.0105, 0.3, 0.01, Layout.PLAIN),
        (0.0, 0.0, 0.0, Layout.PLAIN),
        (0.02, 0.01, 0.01, Layout.ROTATED),
    ],
)
def test_the_plain_layout_wins_ties(plain: float, rotated: float, no_class: float, expected: Layout) -> None:
    gaps = {Layout.PLAIN: plain, Layout.ROTATED: rotated, Layout.NO_CLASS: no_class}
    assert best(gaps) is expected


def test_the_installed_version_is_known() -> None:
    import xllamacpp

    assert library_version() == xllamacpp.__version__
