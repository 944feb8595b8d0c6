"""Published picture parts of LLaVA's make: which are repaired, how, and what of a repair is left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from backends.conversion.cache import entries
from backends.conversion.repair import Flaws, flaws, repair
from backends.conversion.types import Layout
from backends.errors import Cancelled, DiskFull, FolderReadOnly, SnugError
from backends.models.gguf_header import GgufHeader, read_gguf_header
from tests.support import gguf_files

# A tower of ViT-B's width and one block less than its depth, small otherwise.
SIZES: dict[str, Any] = {
    "width": 64,
    "layers": 11,
    "hidden": 768,
    "intermediate": 32,
    "heads": 12,
    "image": 32,
    "patch": 8,
}


def published(path: Path, **more: Any) -> Path:
    return gguf_files.write_gguf(path, *gguf_files.tower(**(SIZES | more)), weights=True)


def header(path: Path) -> GgufHeader:
    return read_gguf_header(path)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, Flaws(cut=True, blocks=11)),
        ({"layers": 12}, Flaws(cut=False, blocks=12)),
        ({"layers": 23, "hidden": 1024, "heads": 16}, Flaws(cut=True, blocks=23)),
        ({"layers": 11, "hidden": 64}, Flaws(cut=False, blocks=11)),
        ({"kind": "f32"}, Flaws(cut=True, blocks=11)),
        ({"classes": False}, None),
        ({"projector": "gemma3"}, None),
        ({"projector": "ldp"}, None),
        ({"more": {"snug.layout": "plain"}}, None),
        ({"more": {"clip.vision.feature_layer": [3, 7]}}, None),
    ],
    ids=str,
)
def test_what_is_repaired(tmp_path: Path, more: dict[str, Any], expected: Flaws | None) -> None:
    made = gguf_files.tower(**(SIZES | more))
    path = gguf_files.write_gguf(tmp_path / "mmproj.gguf", *made, weights=True)
    assert flaws(header(path)) == expected


def test_a_copy_of_headers_only_is_left_alone(tmp_path: Path) -> None:
    path = gguf_files.write_gguf(tmp_path / "mmproj.gguf", *gguf_files.tower(**SIZES))
    assert flaws(header(path)) is None


def numbers(path: Path, name: str) -> Any:
    from gguf import GGUFReader

    return next(tensor.data.copy() for tensor in GGUFReader(path).tensors if tensor.name == name)


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """A file whose bytes are all different."""
    path = published(tmp_path / "llava-mmproj-f16.gguf")
    told = header(path)
    size = sum(tensor.nbytes for tensor in told.tensors)
    raw = bytearray(path.read_bytes())
    begin = len(raw) - -(-size // 32) * 32
    begin = min(begin, len(raw) - size)
    raw[begin:] = bytes(index * 31 % 120 for index in range(len(raw) - begin))
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("layout", list(Layout))
def test_a_repaired_file(numbered: Path, tmp_path: Path, layout: Layout) -> None:
    told: list[tuple[int, int]] = []
    made = repair(numbered, tmp_path / "cache", layout, lambda *step: told.append(step), Flag())
    before, after = header(numbered), header(made)
    assert flaws(after) is None
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] > 0
    assert after.values["snug.layout"] == layout.value
    assert after.values["clip.vision.feature_layer"] == (11,)
    new = {"snug.layout", "clip.vision.feature_layer"}
    assert {key: after.values[key] for key in after.values if key not in new} == dict(before.values)
    names = {tensor.name for tensor in before.tensors}
    dropped = {"v.class_embd"} if layout is Layout.NO_CLASS else set()
    assert {tensor.name for tensor in after.tensors} == names - dropped
    for name in names - dropped - {"v.position_embd.weight"}:
        assert (numbers(made, name) == numbers(numbered, name)).all(), name
    table, old = numbers(made, "v.position_embd.weight"), numbers(numbered, "v.position_embd.weight")
    expected = {
        Layout.PLAIN: list(range(17)),
        Layout.ROTATED: [*range(1, 17), 0],
        Layout.NO_CLASS: list(range(1, 17)),
    }
    assert (table.view("u2") == old[expected[layout]].view("u2")).all()


def test_it_is_made_once_until_the_file_changes(numbered: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    made = repair(numbered, cache, Layout.ROTATED, lambda *_: None, Flag())
    written = made.stat().st_mtime_ns, made.read_bytes()
    again: list[object] = []
    assert repair(numbered, cache, Layout.ROTATED, lambda *step: again.append(step), Flag()) == made
    assert (again, made.read_bytes()) == ([], written[1])
    assert [entry.path for entry in entries(cache)] == [made]
    elsewhere = shutil.copyfile(numbered, tmp_path / "renamed.gguf")
    assert repair(elsewhere, cache, Layout.ROTATED, lambda *step: again.append(step), Flag()) == made
    assert again == []
    other = published(numbered, layers=11, kind="f32")
    assert repair(other, cache, Layout.ROTATED, lambda *_: None, Flag()) != made


def no_room(patch: pytest.MonkeyPatch, cache: Path, cancel: Flag) -> None:
    patch.setattr("backends.storage._free", lambda _: 1000)


def no_folder(patch: pytest.MonkeyPatch, cache: Path, cancel: Flag) -> None:
    cache.write_text("", encoding="utf-8")


def called_off(patch: pytest.MonkeyPatch, cache: Path, cancel: Flag) -> None:
    cancel.set()


@pytest.mark.parametrize(
    ("spoil", "kind"), [(no_room, DiskFull), (no_folder, FolderReadOnly), (called_off, Cancelled)]
)
def test_what_does_not_end_leaves_nothing(
    numbered: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch, Path, Flag], None],
    kind: type[SnugError],
) -> None:
    cache, cancel = tmp_path / "cache", Flag()
    spoil(monkeypatch, cache, cancel)
    with pytest.raises(kind):
        repair(numbered, cache, Layout.ROTATED, lambda *_: None, cancel)
    assert entries(cache) == ()
    assert not list(tmp_path.rglob("*.part"))
