"""A conversion that does not end leaves nothing behind; two of the same model give one file."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from typing import Any, NamedTuple

import pytest

from backends.conversion import writer
from backends.conversion.cache import lock_of, part_of, targets
from backends.conversion.checkpoint import open_checkpoint
from backends.conversion.convert import convert
from backends.conversion.lock import held, is_held
from backends.conversion.types import Request, WeightType
from backends.errors import Cancelled, DiskFull, FolderReadOnly, ModelDamaged, SnugError
from backends.models.gguf_header import read_gguf_header
from tests.backends.conversion.conftest import Folder
from tests.support.converting import start, write_large


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(scope="module")
def large(checkpoint: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large(tmp_path_factory.mktemp("large") / "model", checkpoint("llama"))


def files(cache: Path) -> list[str]:
    """What lies in the cache, the empty files of locks aside."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.parent.name != "locks")


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_process_needs_little_memory_and_no_torch(large: Path, tmp_path: Path) -> None:
    process = start(large, tmp_path / "cache")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    told = json.loads(out)
    weights = sum(path.stat().st_size for path in large.glob("*.safetensors"))
    assert weights > 500e6
    # The largest tensor alone has 524 MB at 32 bits.
    assert told["peak"] < 400e6
    assert told["torch"] is False
    assert told["calls"] > 50
    header = read_gguf_header(Path(told["text"]))
    assert header.complete
    assert weights * 0.53 < header.file_bytes < weights * 0.54


def test_a_killed_conversion_is_begun_anew(large: Path, tmp_path: Path) -> None:
    request = Request(large, tmp_path / "cache")
    target = targets(request).text
    process = start(large, request.cache)
    wait_for(lambda: part_of(target).is_file() and part_of(target).stat().st_size > 10_000_000)
    assert is_held(lock_of(target))
    process.kill()
    process.communicate()
    assert files(request.cache) == [part_of(target).name]
    assert not is_held(lock_of(target))
    cut = part_of(target).stat().st_size
    made = convert(request, lambda *_: None, Flag())
    assert files(request.cache) == [made.text.name]
    assert made.text.stat().st_size > cut
    assert read_gguf_header(made.text).complete


def test_a_cancelled_conversion_leaves_nothing(large: Path, tmp_path: Path) -> None:
    request, cancel = Request(large, tmp_path / "cache"), Flag()
    reached: list[int] = []

    def progress(done: int, total: int) -> None:
        reached.append(done)
        if done > total // 4:
            cancel.set()

    with pytest.raises(Cancelled):
        convert(request, progress, cancel)
    assert files(request.cache) == []
    assert reached[-1] < 300e6
    assert not is_held(lock_of(targets(request).text))


def test_two_at_once_give_one_file(large: Path, tmp_path: Path) -> None:
    request = Request(large, tmp_path / "cache")
    target = targets(request).text
    first = start(large, request.cache)
    wait_for(lambda: part_of(target).is_file() and part_of(target).stat().st_size > 10_000_000)
    told: list[tuple[int, int]] = []
    made = convert(request, lambda done, total: told.append((done, total)), Flag())
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert json.loads(out)["text"] == str(made.text)
    assert files(request.cache) == [made.text.name]
    # The second one wrote nothing: it told how far the first was.
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_who_waits_can_leave(checkpoint: Folder, tmp_path: Path) -> None:
    request, cancel = Request(checkpoint("llama"), tmp_path / "cache"), Flag()
    found: list[BaseException] = []
    waiting = threading.Event()

    def wait() -> None:
        try:
            convert(request, lambda *_: waiting.set(), cancel)
        except SnugError as error:
            found.append(error)

    with held(lock_of(targets(request).text), waiting=lambda: None, cancel=Flag()):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(30)
        cancel.set()
        thread.join(30)
    assert [type(error) for error in found] == [Cancelled]


def test_a_disk_without_room_is_told_before(
    checkpoint: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.storage.shutil.disk_usage", lambda _: Usage(1 << 40, 1 << 40, 1000))
    with pytest.raises(DiskFull) as caught:
        convert(Request(checkpoint("llama"), tmp_path / "cache"), lambda *_: None, Flag())
    assert caught.value.values["free_bytes"] == 1000
    assert files(tmp_path / "cache") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_fills_meanwhile(
    checkpoint: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = writer.write_document

    def onto_a_full_disk(document: Any, folder: Path, tensors: Any, path: Path, **more: Any) -> None:
        path.symlink_to("/dev/full")
        real(document, folder, tensors, path, **more)

    monkeypatch.setattr("backends.conversion.convert.write_document", onto_a_full_disk)
    with pytest.raises(DiskFull):
        convert(Request(checkpoint("llama"), tmp_path / "cache"), lambda *_: None, Flag())
    assert files(tmp_path / "cache") == []
    assert Path("/dev/full").exists()


def test_a_write_that_fails_among_the_weights(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "flush_to_disk", full)
    checkpoint = open_checkpoint(large)
    with pytest.raises(DiskFull):
        convert(Request(large, tmp_path / "cache", kind=WeightType.Q4_0), lambda *_: None, Flag())
    assert files(tmp_path / "cache") == []
    assert checkpoint.config["hidden_size"] == 2048


def test_a_folder_that_can_t_be_written(checkpoint: Folder, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    with pytest.raises(FolderReadOnly):
        convert(Request(checkpoint("llama"), tmp_path / "cache"), lambda *_: None, Flag())


def test_a_model_in_a_read_only_folder_is_converted(checkpoint: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "模型 read only"
    shutil.copytree(checkpoint("llama"), folder)
    folder.chmod(0o555)
    try:
        assert convert(Request(folder, tmp_path / "cache"), lambda *_: None, Flag()).text.is_file()
    finally:
        folder.chmod(0o755)


def damaged(source: Path, target: Path, value: bytes, at: int = -64) -> Path:
    shutil.copytree(source, target)
    path = target / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(at, 2)
        file.write(value)
    return target


def test_weights_that_are_no_numbers(checkpoint: Folder, tmp_path: Path) -> None:
    folder = damaged(checkpoint("llama"), tmp_path / "model", b"\xff\xff\xff\x7f" * 16)
    with pytest.raises(ModelDamaged, match="no numbers"):
        convert(Request(folder, tmp_path / "cache"), lambda *_: None, Flag())
    assert files(tmp_path / "cache") == []


def test_weights_that_are_cut_meanwhile(large: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(large, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    path = folder / "model.safetensors"
    size = (large / path.name).stat().st_size
    with (large / path.name).open("rb") as source, path.open("wb") as target:
        target.write(source.read(100_000))
        target.truncate(size)

    def progress(done: int, _: int) -> None:
        if done:
            with path.open("r+b") as file:
                file.truncate(size // 2)

    with pytest.raises(ModelDamaged, match="to its end"):
        convert(Request(folder, tmp_path / "cache"), progress, Flag())
    assert files(tmp_path / "cache") == []
