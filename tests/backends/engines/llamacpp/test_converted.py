"""Checkpoints that the engine converts before it loads them: steps, answers, cancelling, errors, memory."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import pytest

from backends.conversion.cache import clear, stem
from backends.conversion.layouts import Choice, Compared, library_version, write
from backends.conversion.types import Conversion, Layout, WeightType
from backends.engines.base import ChatRequest, Engine
from backends.engines.llamacpp_engine import LlamaCppEngine
from backends.engines.transformers_engine import TransformersEngine
from backends.errors import Cancelled, DiskFull, FolderReadOnly, ModelDamaged, ModelUnsupported, SnugError
from backends.messages import Done, Message, Progress, TextDelta
from backends.placement.types import Plan
from tests.support import tiny_models, tiny_texts
from tests.support.answers import Draw, greedy, said, user
from tests.support.plans import make_plan

WRITERS = tiny_texts.WRITERS | {"llava": tiny_models.write_llava, "llava-next": tiny_models.write_llava_next}
Checkpoints = Callable[[str], Path]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(name: str) -> Path:
        return root / name if (root / name).exists() else WRITERS[name](root / name)

    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by tests that don't look into it."""
    return tmp_path_factory.mktemp("converted")


def plan_for(
    folder: Path,
    cache: Path,
    *,
    kind: WeightType = WeightType.F16,
    pictures: bool = True,
    layout: Layout | None = Layout.NO_CLASS,
    context: int = 512,
) -> Plan:
    vision = WeightType.F16 if pictures else None
    conversion = Conversion(str(cache), kind, vision, 0, 0, layout=layout if pictures else None)
    plan = make_plan(folder, precision=kind.value, context_tokens=context, device_map={"model": "cpu"})
    return replace(plan, engine="llamacpp", conversion=conversion)


@pytest.fixture
def engine() -> Iterator[LlamaCppEngine]:
    made = LlamaCppEngine(exact=True)
    yield made
    made.close()


def ask(engine: Engine, messages: list[Message], tokens: int = 12) -> tuple[str, Done]:
    events = list(engine.chat(ChatRequest("tab", messages, greedy(tokens)), Flag()))
    done = events[-1]
    assert isinstance(done, Done)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), done


def test_steps_of_a_first_and_a_second_load(
    engine: LlamaCppEngine, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    plan = plan_for(checkpoints("llava"), tmp_path / "cache")
    heard: list[Progress] = []
    report = engine.load(plan, heard.append, Flag())
    stages = list(dict.fromkeys(progress.stage for progress in heard))
    assert stages == ["start", "converting", "read", "place"]
    converting = [progress for progress in heard if progress.stage == "converting"]
    assert converting[0].done == 0
    assert converting[-1].done == converting[-1].total > 0
    assert [progress.done for progress in converting] == sorted(progress.done for progress in converting)
    assert (report.engine, report.precision, report.device_map) == ("llamacpp", "f16", plan.device_map)
    assert report.supports_images
    again: list[Progress] = []
    engine.load(plan, again.append, Flag())
    assert "converting" not in {progress.stage for progress in again}


@pytest.mark.skipif(sys.platform != "linux", reason="reads what is mapped")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="ARM arranges Q8_0, too")
@pytest.mark.parametrize(("kind", "mapped"), [(WeightType.Q8_0, True), (WeightType.Q4_0, False)])
def test_weights_lie_in_memory_once(
    engine: LlamaCppEngine, checkpoints: Checkpoints, cache: Path, kind: WeightType, *, mapped: bool
) -> None:
    """What llama.cpp arranges anew would stay in the mapped file as well."""
    engine.load(plan_for(checkpoints("llava"), cache, kind=kind), lambda _: None, Flag())
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert (f"-{kind.value}.gguf" in maps) is mapped
    assert (engine.memory()[0].mapped_weights_bytes > 0) is mapped
    text, done = ask(engine, [user("How many people are wearing red?")])
    assert text
    assert done.usage.completion_tokens > 0


@pytest.mark.parametrize(
    "name", ["llava", "vicuna", "mistral", "qwen2", "llama3", "llava-qwen2", "llava-mistral"]
)
def test_answers_are_those_of_transformers(
    engine: LlamaCppEngine, checkpoints: Checkpoints, cache: Path, name: str
) -> None:
    folder = checkpoints(name)
    sees = name.startswith("llava")
    engine.load(plan_for(folder, cache, kind=WeightType.F32, pictures=sees), lambda _: None, Flag())
    other = TransformersEngine()
    other.load(make_plan(folder), lambda _: None, Flag())
    talk = [user("How many people are wearing red?"), said("Three."), user("  And blue, naïve ones?")]
    try:
        for messages in (talk[:1], talk):
            text, done = ask(engine, messages)
            expected, theirs = ask(other, messages)
            assert done.usage.prompt_tokens == theirs.usage.prompt_tokens
            assert spoken(expected).startswith(spoken(text)), (text, expected)
            assert text
    finally:
        other.close()


def spoken(text: str) -> str:
    """Letters of an answer: random models say halves of characters, which each library shows otherwise."""
    return "".join(letter for letter in text if letter.isascii() and letter.isprintable())


def test_marks_are_composed_where_the_tokenizer_does_it(
    engine: LlamaCppEngine, checkpoints: Checkpoints, cache: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoints("llava-qwen2"), tmp_path / "model")
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8")) | {"normalizer": {"type": "NFC"}}
    path.write_text(json.dumps(document), encoding="utf-8")
    engine.load(plan_for(folder, cache, pictures=False), lambda _: None, Flag())
    apart, composed = (ask(engine, [user(text)])[1].usage for text in ("nai\u0308ve", "na\u00efve"))
    assert apart.prompt_tokens == composed.prompt_tokens
    engine.load(plan_for(checkpoints("llava-qwen2"), cache, pictures=False), lambda _: None, Flag())
    assert ask(engine, [user("nai\u0308ve")])[1].usage.prompt_tokens == apart.prompt_tokens + 1


def test_clearing_spares_what_is_being_loaded(
    engine: LlamaCppEngine, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    freed: dict[str, int] = {}

    def clear_meanwhile(step: Progress) -> None:
        freed[step.stage] = freed.get(step.stage, 0) + clear(tmp_path / "cache")

    engine.load(plan_for(checkpoints("llava"), tmp_path / "cache"), clear_meanwhile, Flag())
    assert freed == {"start": 0, "converting": 0, "read": 0, "place": 0}
    assert clear(tmp_path / "cache") > 0


def generating(folder: Path, target: Path, **more: object) -> Path:
    """A copy of a checkpoint with more in its generation_config.json."""
    shutil.copytree(folder, target)
    path = target / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | more), encoding="utf-8")
    return target


def test_a_checkpoints_penalty_on_repetition_counts(
    engine: LlamaCppEngine, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    folder = generating(checkpoints("qwen2"), tmp_path / "model", repetition_penalty=1.5)
    answers = []
    for source in (checkpoints("qwen2"), folder):
        plan = plan_for(source, tmp_path / "cache", kind=WeightType.F32, pictures=False)
        engine.load(plan, lambda _: None, Flag())
        answers.append(spoken(ask(engine, [user("How many people?")])[0]))
    assert not answers[0].startswith(answers[1])
    other = TransformersEngine()
    other.load(make_plan(folder), lambda _: None, Flag())
    theirs = spoken(ask(other, [user("How many people?")])[0])
    other.close()
    assert answers[1]
    assert theirs.startswith(answers[1])


@pytest.mark.parametrize("place", [3, 6])
def test_every_end_of_a_checkpoint_ends_an_answer(
    engine: LlamaCppEngine, checkpoints: Checkpoints, tmp_path: Path, place: int
) -> None:
    """A word of the answer is named the last of so many ends."""
    folder, cache = checkpoints("qwen2"), tmp_path / "cache"
    engine.load(plan_for(folder, cache, kind=WeightType.F32, pictures=False), lambda _: None, Flag())
    whole = ask(engine, [user("How many people?")])[1].token_ids
    at, end = next((at, one) for at, one in enumerate(whole) if at > 1 and one not in whole[:at])
    unsaid = [number for number in range(100, 110) if number not in whole]
    ends = [3, *unsaid[: place - 2], end]
    ending = generating(folder, tmp_path / "model", eos_token_id=ends)
    engine.load(plan_for(ending, cache, kind=WeightType.F32, pictures=False), lambda _: None, Flag())
    done = ask(engine, [user("How many people?")])[1]
    assert (done.finish_reason, done.token_ids) == ("stop", whole[:at])


def test_pictures_take_as_many_tokens_as_in_transformers(
    engine: LlamaCppEngine, checkpoints: Checkpoints, cache: Path, picture: Draw
) -> None:
    folder = checkpoints("llava")
    engine.load(plan_for(folder, cache), lambda _: None, Flag())
    other = TransformersEngine()
    other.load(make_plan(folder), lambda _: None, Flag())
    asked = [user(picture("red"), "What color?")]
    ours, theirs = ask(engine, asked)[1].usage, ask(other, asked)[1].usage
    other.close()
    assert (ours.prompt_tokens, ours.image_tokens) == (theirs.prompt_tokens, theirs.image_tokens)


def test_a_text_only_conversion_of_a_model_that_sees(
    engine: LlamaCppEngine, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    """LLaVA-1.6: its words are converted, its pictures are not."""
    plan = plan_for(checkpoints("llava-next"), tmp_path / "cache", pictures=False)
    assert not engine.load(plan, lambda _: None, Flag()).supports_images
    assert ask(engine, [user("Hi")])[0]
    with pytest.raises(ModelUnsupported, match="one tile after the other"):
        engine.load(plan_for(checkpoints("llava-next"), tmp_path / "cache"), lambda _: None, Flag())
    assert not engine.loaded


def test_another_models_files_in_the_cache_are_not_taken(
    engine: LlamaCppEngine, checkpoints: Checkpoints, cache: Path
) -> None:
    """Towers of the same width lie side by side."""
    engine.load(plan_for(checkpoints("llava"), cache), lambda _: None, Flag())
    assert not engine.load(
        plan_for(checkpoints("llama3"), cache, pictures=False), lambda _: None, Flag()
    ).supports_images


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.parent.name != "locks")


def test_cancelling_leaves_nothing_half_written(
    engine: LlamaCppEngine, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    cancel = Flag()

    def stop(progress: Progress) -> None:
        if progress.stage == "converting" and progress.done:
            cancel.set()

    plan = plan_for(checkpoints("llava"), tmp_path / "cache")
    with pytest.raises(Cancelled):
        engine.load(plan, stop, cancel)
    assert not engine.loaded
    assert not [name for name in files(tmp_path / "cache") if name.endswith(".part")]
    engine.load(plan, lambda _: None, Flag())
    assert ask(engine, [user("Hi")])[1].usage.completion_tokens > 0


def no_room(monkeypatch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    monkeypatch.setattr("backends.storage._free", lambda _: 1000)


def no_folder(monkeypatch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    cache.write_text("a file in the place of the folder", encoding="utf-8")


def cut_weights(monkeypatch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def other_tower(monkeypatch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["vision_config"]["hidden_act"] = "relu"
    path.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (no_room, DiskFull),
        (no_folder, FolderReadOnly),
        (cut_weights, ModelDamaged),
        (other_tower, ModelUnsupported),
    ],
)  # fmt: skip
def test_errors_pass_through(
    engine: LlamaCppEngine,
    checkpoints: Checkpoints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    spoil: Callable[[pytest.MonkeyPatch, Path, Path], None],
    kind: type[SnugError],
) -> None:
    folder = shutil.copytree(checkpoints("llava"), tmp_path / "model")
    spoil(monkeypatch, folder, tmp_path / "cache")
    with pytest.raises(kind):
        engine.load(plan_for(folder, tmp_path / "cache"), lambda _: None, Flag())
    assert not engine.loaded


def test_a_layout_that_was_chosen_before_is_taken(
    engine: LlamaCppEngine, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    record = Choice(Layout.ROTATED, library_version(), {"rotated": 0.1}, Compared.MODEL)
    write(cache, stem(checkpoints("llava")), record)
    heard: list[str] = []
    engine.load(
        plan_for(checkpoints("llava"), cache, layout=None), lambda step: heard.append(step.stage), Flag()
    )
    assert "comparing" not in heard
    assert [name for name in files(cache) if "mmproj" in name and "rotated" in name]
    assert not [name for name in files(cache) if "no_class" in name]


def test_a_layout_that_only_the_library_stands_for_is_looked_for_again(
    engine: LlamaCppEngine, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    write(cache, stem(checkpoints("llava")), Choice(Layout.ROTATED, library_version(), {"rotated": 0.1}))
    plan = plan_for(checkpoints("llava"), cache, layout=Layout.NO_CLASS)
    assert plan.conversion is not None
    stood_in = replace(plan, conversion=replace(plan.conversion, compared=Compared.LIBRARY.value))
    engine.load(stood_in, lambda _: None, Flag())
    (pictures,) = (name for name in files(cache) if "mmproj" in name)
    assert "rotated" in pictures
