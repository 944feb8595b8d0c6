"""Loads of real GGUF files: what is reported, what is told on the way, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import psutil
import pytest

from backends.engines.llamacpp_engine import LlamaCppEngine
from backends.errors import (
    Cancelled,
    ModelDamaged,
    ModelUnsupported,
    OutOfRam,
    SettingInvalid,
    SnugError,
)
from backends.messages import Progress, SamplingParams
from backends.models.identify import identify
from backends.placement.types import DeviceShare, Plan
from tests.backends.engines.llamacpp.conftest import Files
from tests.backends.engines.llamacpp.test_answers import ask
from tests.support import gguf_files, tiny_gguf
from tests.support.answers import Draw, user
from tests.support.plans import make_plan


def load(plan: Plan | Path, cancel: Flag | None = None) -> LlamaCppEngine:
    engine = LlamaCppEngine()
    plan = plan if isinstance(plan, Plan) else make_plan(plan)
    engine.load(plan, lambda _: None, cancel or Flag())
    return engine


def test_the_report_is_of_what_was_read(files: Files) -> None:
    engine = LlamaCppEngine()
    seen: list[Progress] = []
    report = engine.load(make_plan(files("eyes"), context_tokens=512), seen.append, Flag())
    assert (report.engine, report.precision, report.supports_images) == ("llamacpp", "f32", True)
    assert report.context_tokens == 512
    assert {device for _, device in report.device_map} == {"cpu"}
    assert [name for name, _ in report.device_map][:2] == ["mmproj", "token_embd"]
    size = sum(file.stat().st_size for file in files("eyes").parent.iterdir())
    read = [progress for progress in seen if progress.stage == "read"]
    assert [progress.done for progress in read] == sorted(progress.done for progress in read)
    assert (read[-1].done, read[-1].total) == (size, size)
    (peak,) = engine.memory()
    assert peak.weights_bytes == identify(files("eyes")).weights_bytes
    assert 0 <= peak.mapped_weights_bytes < peak.weights_bytes
    engine.close()


def test_the_plans_context_is_no_longer_than_the_models(files: Files) -> None:
    engine = LlamaCppEngine()
    report = engine.load(make_plan(files("text"), context_tokens=50_000), lambda _: None, Flag())
    assert report.context_tokens == 2048
    engine.close()


def test_neither_torch_nor_transformers_is_imported(files: Files) -> None:
    code = (
        "import sys; from pathlib import Path; from threading import Event;"
        "from backends.engines.registry import create; from tests.support.plans import make_plan;"
        f"engine = create('llamacpp'); engine.load(make_plan({str(files('text'))!r}), print, Event());"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="there it is the loopback address, with a key")
def test_nobody_can_reach_the_server(files: Files) -> None:
    before = {one.laddr for one in psutil.Process().net_connections("all") if one.laddr}
    engine = load(files("text"))
    opened = {one.laddr for one in psutil.Process().net_connections("all") if one.laddr} - before
    # A socket file that is gone: no address of a network, and no name to connect to.
    assert not [address for address in opened if not isinstance(address, str) or Path(address).exists()]
    engine.close()


def test_a_split_set(files: Files, tmp_path: Path) -> None:
    parts = tiny_gguf.split(files("text"), tmp_path)
    engine, whole = load(parts[0]), load(files("text"))
    assert ask(engine, [user("Hi")])[0] == ask(whole, [user("Hi")])[0]
    engine.close()
    whole.close()


def test_a_path_with_spaces_and_chinese_characters(files: Files, tmp_path: Path, picture: Draw) -> None:
    folder = tmp_path / "my models 模型"
    shutil.copytree(files("eyes").parent, folder)
    engine = load(folder / "tiny.gguf")
    assert ask(engine, [user(picture("red"), "What?")])[1].usage.image_tokens == tiny_gguf.PICTURE_TOKENS
    engine.close()


def test_what_a_file_says_of_sampling_is_taken_for_its_penalty_only(tmp_path: Path) -> None:
    def neutral_or_not(writer: object) -> None:
        writer.add_float32("general.sampling.penalty_repeat", 1.5)  # type: ignore[attr-defined]
        writer.add_float32("general.sampling.temp", 5.0)  # type: ignore[attr-defined]

    penalized = load(tiny_gguf.write_text(tmp_path / "a" / "m.gguf", endless=True, change=neutral_or_not))
    free = load(tiny_gguf.write_text(tmp_path / "b" / "m.gguf", endless=True))
    texts = [ask(engine, [user("Hi")], SamplingParams(0.0, max_tokens=60)) for engine in (penalized, free)]
    kinds = [len(set(done.token_ids)) for _, done in texts]
    assert kinds[0] > kinds[1]
    penalized.close()
    free.close()


def test_a_load_can_be_called_off(files: Files) -> None:
    cancel = Flag()
    cancel.set()
    with pytest.raises(Cancelled):
        load(make_plan(files("text")), cancel)


def _cut(folder: Path) -> Path:
    path = tiny_gguf.write_text(folder / "m.gguf")
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def _cut_eyes(folder: Path) -> Path:
    eyes = tiny_gguf.write_eyes(folder / "m-mmproj.gguf")
    eyes.write_bytes(eyes.read_bytes()[:-1000])
    return tiny_gguf.write_text(folder / "m.gguf")


def _foreign_eyes(folder: Path) -> Path:
    tiny_gguf.write_eyes(folder / "m-mmproj.gguf", width=96)
    return tiny_gguf.write_text(folder / "m.gguf")


def _unknown_tokenizer(folder: Path) -> Path:
    return tiny_gguf.write_text(folder / "m.gguf", change=lambda writer: writer.add_tokenizer_pre("pear"))


def _unknown_to_the_library(folder: Path) -> Path:
    # Planned for, and without code in llama.cpp's library.
    made = gguf_files.decoder("gptj", **gguf_files.TINY)
    return gguf_files.write_gguf(folder / "m.gguf", *made, weights=True)


def _empty_eyes(folder: Path) -> Path:
    metadata, tensors = gguf_files.tower(**gguf_files.SMALL_EYES | {"width": tiny_gguf.HIDDEN})
    kept = [tensor for tensor in tensors if tensor[0] != "v.blk.0.attn_out.weight"]
    gguf_files.write_gguf(folder / "m-mmproj.gguf", metadata, kept, weights=True)
    return tiny_gguf.write_text(folder / "m.gguf")


@pytest.mark.parametrize(
    ("write", "kind", "sentence"),
    [
        pytest.param(_cut, ModelDamaged, "m.gguf is truncated", id="a truncated model"),
        pytest.param(_cut_eyes, ModelDamaged, "m-mmproj.gguf is truncated", id="a truncated mmproj"),
        pytest.param(_foreign_eyes, ModelDamaged, "belongs to another model", id="another model's mmproj"),
        pytest.param(_unknown_tokenizer, ModelUnsupported, "tokenizer pear", id="an unknown tokenizer"),
        pytest.param(_unknown_to_the_library, ModelUnsupported, "gptj", id="an unknown architecture"),
        pytest.param(_empty_eyes, ModelDamaged, "rejects m-mmproj.gguf", id="an mmproj that lacks weights"),
    ],
)
def test_what_can_not_be_loaded(tmp_path: Path, write: object, kind: type[SnugError], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        load(write(tmp_path))  # type: ignore[operator]
    assert sentence in str(caught.value)


def test_the_engine_loads_after_a_failure(files: Files, tmp_path: Path) -> None:
    engine = LlamaCppEngine()
    with pytest.raises(ModelUnsupported):
        engine.load(make_plan(_unknown_to_the_library(tmp_path)), lambda _: None, Flag())
    assert not engine.loaded
    engine.load(make_plan(files("text")), lambda _: None, Flag())
    assert ask(engine, [user("Hi")])[1].finish_reason in ("stop", "length")
    engine.close()


def test_a_plan_with_a_gpu_is_refused(files: Files) -> None:
    plan = make_plan(files("text"), device_map={"blk.0": "cuda:0", "output": "cpu"}, visible_gpus=(0,))
    with pytest.raises(SettingInvalid, match="on the processor only"):
        load(plan)


def test_memory_that_others_took_meanwhile(files: Files) -> None:
    much = DeviceShare("cpu", "CPU", 1 << 60, 1 << 59, 0, 0, 0, 0)
    with pytest.raises(OutOfRam):
        load(replace(make_plan(files("text")), devices=(much,)))
