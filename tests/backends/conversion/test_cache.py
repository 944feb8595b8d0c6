"""Converted files are named by what they were made from, and make room for each other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import pytest

from backends.conversion.cache import clear, entries, in_use, lock_of, part_of, stem, targets, touch, trim
from backends.conversion.convert import convert, find
from backends.conversion.lock import held
from backends.conversion.types import Layout, Request, WeightType
from tests.backends.conversion.conftest import Folder


@pytest.fixture
def request_(checkpoint: Folder, tmp_path: Path) -> Request:
    folder = tmp_path / "模型 with spaces"
    shutil.copytree(checkpoint("llava"), folder)
    return Request(folder, tmp_path / "cache", layout=Layout.ROTATED)


def later(path: Path) -> None:
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000_000))


def retrain(folder: Path, which: Callable[[str], bool]) -> None:
    """Change the numbers of some tensors; sizes, headers and the time of the last change stay."""
    path = folder / "model.safetensors"
    about, content = path.stat(), bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    chosen = [name for name in header if name != "__metadata__" and which(name)]
    assert chosen
    for name in chosen:
        begin, end = (8 + length + offset for offset in header[name]["data_offsets"])
        content[begin:end] = bytes(number ^ 1 for number in content[begin:end])
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + (os.name == "nt")))


def other_config(folder: Path) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text(encoding="utf-8")) | {"image_seq_length": 17}
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: retrain(folder, lambda _: True),
        lambda folder: retrain(folder, lambda name: name.endswith("multi_modal_projector.linear_1.weight")),
        lambda folder: retrain(folder, lambda name: name.endswith("layers.1.input_layernorm.weight")),
        other_config,
        lambda folder: (folder / "chat_template.jinja").write_text("other", encoding="utf-8"),
    ],
    ids=["weights", "projector", "norm", "config", "template"],
)
def test_another_checkpoint_has_another_name(request_: Request, change: Callable[[Path], object]) -> None:
    before = targets(request_)
    change(request_.folder)
    after = targets(request_)
    assert before.text != after.text
    assert before.mmproj != after.mmproj


def new_readme(folder: Path) -> Path:
    (folder / "README.md").write_text("new", encoding="utf-8")
    return folder


def touched(folder: Path) -> Path:
    for path in folder.iterdir():
        later(path)
    return folder


def renamed(folder: Path) -> Path:
    return folder.rename(folder.with_name("another name"))


def copied(folder: Path) -> Path:
    copy = shutil.copytree(folder, folder.parent / "elsewhere" / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(folder)
    return copy


@pytest.mark.parametrize("change", [new_readme, touched, renamed, copied])
def test_what_does_not_matter_keeps_the_files(request_: Request, change: Callable[[Path], Path]) -> None:
    made = convert(request_, lambda *_: None, Flag())
    moved = replace(request_, folder=change(request_.folder))
    assert find(moved) == made
    told: list[object] = []
    assert convert(moved, lambda *step: told.append(step), Flag()) == made
    assert told == []


def test_files_of_an_earlier_version_go_as_others_do(request_: Request) -> None:
    """Their names began with the folder's."""
    request_.cache.mkdir()
    earlier = [
        request_.cache / f"模型-{'0' * 20}-{end}" for end in ("q8_0.gguf", "layout.json", "q4_0.gguf.part")
    ]
    for path in earlier:
        path.write_bytes(bytes(100))
    assert find(request_) is None
    made = convert(request_, lambda *_: None, Flag())
    trim(request_.cache, sum(entry.nbytes for entry in entries(request_.cache)) - 1, keep={made.text})
    assert [path.exists() for path in earlier] == [False, True, False]
    clear(request_.cache)
    assert not any(path.exists() for path in earlier)


def test_each_type_and_layout_has_its_file(request_: Request) -> None:
    plain = replace(request_, layout=Layout.PLAIN)
    small = replace(request_, kind=WeightType.Q4_0)
    assert targets(plain).text == targets(request_).text
    assert targets(plain).mmproj != targets(request_).mmproj
    assert targets(small).text != targets(request_).text
    assert targets(small).mmproj == targets(request_).mmproj
    assert targets(replace(request_, layout=None)).mmproj is None


def test_a_conversion_is_found_again(request_: Request) -> None:
    assert find(request_) is None
    told: list[tuple[int, int]] = []
    made = convert(request_, lambda done, total: told.append((done, total)), Flag())
    assert find(request_) == made
    assert told[-1][0] == told[-1][1] > 0
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    stamp = made.text.stat().st_mtime_ns
    again: list[tuple[int, int]] = []
    assert convert(request_, lambda done, total: again.append((done, total)), Flag()) == made
    assert again == []
    assert made.text.stat().st_mtime_ns >= stamp


def test_what_lacks_is_made_alone(request_: Request) -> None:
    first = convert(replace(request_, layout=None), lambda *_: None, Flag())
    number = first.text.stat().st_ino
    both = convert(request_, lambda *_: None, Flag())
    assert both.text == first.text
    assert both.text.stat().st_ino == number
    assert both.mmproj is not None
    assert both.mmproj.is_file()


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(path.read_bytes()[:-100]), lambda path: path.write_bytes(bytes(5000))],
    ids=["cut", "zeros"],
)
@pytest.mark.parametrize("part", ["text", "mmproj"])
def test_a_damaged_file_is_made_anew(request_: Request, part: str, damage: Callable[[Path], object]) -> None:
    made = convert(request_, lambda *_: None, Flag())
    path: Path = getattr(made, part)
    whole = path.read_bytes()
    damage(path)
    assert find(request_) is None
    assert convert(request_, lambda *_: None, Flag()) == made
    assert path.read_bytes() == whole
    assert find(request_) == made


def test_what_goes_missing_meanwhile_is_made_again(request_: Request) -> None:
    """By the hand of a person, for one: whoever clears with this program sees that it is used."""
    named = targets(request_)
    removed: list[Path] = []
    assert named.mmproj is not None

    def remove(done: int, total: int) -> None:
        if done == total and not removed:
            removed.append(named.text)
            named.text.unlink()

    made = convert(request_, remove, Flag())
    assert removed == [made.text]
    assert find(request_) == made


def test_clearing_leaves_a_checkpoint_that_is_being_converted(request_: Request) -> None:
    other = replace(request_, kind=WeightType.Q4_0, layout=None)
    earlier = convert(other, lambda *_: None, Flag()).text
    freed: list[int] = []

    def clear_meanwhile(*_: int) -> None:
        freed.append(clear(request_.cache) + trim(request_.cache, 0))

    made = convert(request_, clear_meanwhile, Flag())
    assert len(freed) > 1
    assert set(freed) == {0}
    assert earlier.is_file()
    assert find(request_) == made
    assert clear(request_.cache) > 0
    assert entries(request_.cache) == ()
    assert not list((request_.cache / "locks").glob("*.used"))


def test_marks_of_ended_processes_keep_nothing(request_: Request) -> None:
    made = convert(request_, lambda *_: None, Flag())
    beginning = stem(request_.folder)
    (request_.cache / "locks" / f"{beginning}.0.used").write_bytes(b"")
    with in_use(request_.cache, beginning), in_use(request_.cache, beginning):
        assert clear(request_.cache) == 0
    assert clear(request_.cache) > 0
    assert not made.text.exists()


def filled(cache: Path) -> list[Path]:
    """Four files of 100 bytes, the first used last."""
    cache.mkdir()
    paths = [cache / f"{name}.gguf" for name in "abcd"]
    for age, path in enumerate(paths):
        path.write_bytes(bytes(100))
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return paths


@pytest.mark.parametrize(
    ("limit", "left"),
    [(1000, "abcd"), (400, "abcd"), (399, "abc"), (250, "ab"), (99, ""), (0, "")],
    ids=str,
)
def test_files_used_longest_ago_go_first(tmp_path: Path, limit: int, left: str) -> None:
    filled(tmp_path / "cache")
    freed = trim(tmp_path / "cache", limit)
    assert "".join(sorted(entry.path.stem for entry in entries(tmp_path / "cache"))) == left
    assert freed == 400 - 100 * len(left)


def test_a_file_in_use_stays(tmp_path: Path) -> None:
    paths = filled(tmp_path / "cache")
    trim(tmp_path / "cache", 0, keep={paths[3]})
    assert [entry.path for entry in entries(tmp_path / "cache")] == [paths[3]]


def test_a_use_counts(tmp_path: Path) -> None:
    paths = filled(tmp_path / "cache")
    touch(paths[3])
    assert entries(tmp_path / "cache")[0].path == paths[3]


def test_clearing_leaves_a_running_conversion_alone(tmp_path: Path) -> None:
    a, b, *_ = filled(tmp_path / "cache")
    for target in (a, b):
        part_of(target).write_bytes(bytes(10))
    with held(lock_of(a), waiting=lambda: None, cancel=Flag()):
        assert clear(tmp_path / "cache") == 410
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_file()] == [part_of(a)]
    assert clear(tmp_path / "not there") == 0
