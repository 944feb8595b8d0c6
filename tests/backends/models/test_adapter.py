"""A LoRA is planned with its base model, wherever that is, and with no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.errors import ModelDamaged, ModelNotFound, ModelUnsupported, SettingInvalid
from backends.models.identify import identify
from backends.placement.planner import plan
from backends.placement.types import Overrides, PlanRequest
from backends.service.library import Library
from backends.settings import Settings
from tests.support import checkpoints
from tests.support.machines import gpu, machine

BASE = "llava-hf/llava-1.5-7b-hf"
SNAPSHOT = "hub/models--llava-hf--llava-1.5-7b-hf/snapshots/aaa"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folders = (tmp_path / "my models",)
    return Library(
        Settings(home=tmp_path / "home", model_folders=folders, starter=tmp_path, examples=tmp_path)
    )


@pytest.mark.parametrize(
    "place",
    ["loras/llava-1.5-7b-hf", "my models/llava-1.5-7b-hf", "my models/llava-hf/llava-1.5-7b-hf", SNAPSHOT],
    ids=["beside it", "in a model folder", "one level deeper", "in the Hub cache"],
)
def test_the_base_is_found(library: Library, tmp_path: Path, place: str) -> None:
    base = checkpoints.llava_15_7b(tmp_path / place)

    found = library.inspect(str(checkpoints.lora(tmp_path / "loras" / "mine", BASE)))

    assert found.adapter is not None
    assert Path(found.adapter.base) == base
    assert found.family == "llava"


def test_the_nearest_base_wins(library: Library, tmp_path: Path) -> None:
    for place in (SNAPSHOT, "my models/llava-1.5-7b-hf", "loras/llava-1.5-7b-hf"):
        base = checkpoints.llava_15_7b(tmp_path / place)

        found = library.inspect(str(checkpoints.lora(tmp_path / "loras" / place.replace("/", " "), BASE)))

        assert found.adapter is not None
        assert Path(found.adapter.base) == base


@pytest.mark.parametrize("named", ["path", "name in a model folder"])
def test_the_base_that_was_set_by_hand_comes_before_all(library: Library, tmp_path: Path, named: str) -> None:
    checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b-hf")
    other = checkpoints.llava_15_7b(tmp_path / "my models" / "mein 模型")
    lora = str(checkpoints.lora(tmp_path / "lora", BASE))

    found = library.inspect(lora, Overrides(base=str(other) if named == "path" else other.name))

    assert found.adapter is not None
    assert Path(found.adapter.base) == other
    assert library.inspect(lora, Overrides(base=str(other))) is found
    assert library.inspect(lora) is not found


def test_a_change_of_the_base_is_seen(library: Library, tmp_path: Path) -> None:
    base = checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b-hf")
    lora = str(checkpoints.lora(tmp_path / "lora", BASE))
    before = library.inspect(lora)
    assert library.inspect(lora) is before

    (base / "preprocessor_config.json").write_text("{ }", encoding="utf-8")

    assert library.inspect(lora) is not before


def test_a_base_that_is_nowhere_is_named_with_what_to_do(library: Library, tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match=rf"of the model {BASE}, which is neither.*--set base=PATH"):
        library.inspect(str(checkpoints.lora(tmp_path / "lora", BASE)))
    with pytest.raises(ModelNotFound, match="no such folder"):
        library.inspect(str(tmp_path / "lora"), Overrides(base="nowhere"))


def test_a_whole_model_has_no_base(tmp_path: Path) -> None:
    whole = identify(checkpoints.llava_15_7b(tmp_path / "llava"))
    with pytest.raises(SettingInvalid, match=r"base can't be x\. This model is no LoRA"):
        plan(machine(gpu(0)), whole, PlanRequest("m", overrides=Overrides(base="x")))


def _named(base: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        config = {"peft_type": "LORA", "base_model_name_or_path": base}
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")

    return write


def _loop(folder: Path) -> None:
    (folder / "config.json").write_text("{}", encoding="utf-8")
    checkpoints.lora(folder.parent / "other", str(folder))
    (folder.parent / "other" / "config.json").write_text("{}", encoding="utf-8")
    _named("other")(folder)


@pytest.mark.parametrize(
    ("spoil", "kind", "says"),
    [
        pytest.param(_named(None), ModelUnsupported, "does not say of which model", id="no base"),
        pytest.param(_named(5), ModelUnsupported, "does not say of which model", id="a number as its base"),
        pytest.param(_named("x" * 5000), ModelUnsupported, r"x{80}\.\.\., which is", id="an endless base"),
        pytest.param(_named("a\0b"), ModelUnsupported, r"a\?b, which is", id="no path at all"),
        pytest.param(_named(".."), ModelUnsupported, "neither beside it", id="the folder above"),
        pytest.param(_named("lora"), ModelUnsupported, "neither beside it", id="itself"),
        pytest.param(_loop, ModelUnsupported, "an adapter itself", id="two adapters of each other"),
        pytest.param(
            lambda folder: (folder / "adapter_model.safetensors").unlink(),
            ModelDamaged,
            "adapter_model.safetensors is missing",
            id="no weights",
        ),
    ],
)
def test_what_is_no_lora_of_a_model(
    tmp_path: Path, spoil: Callable[[Path], None], kind: type[Exception], says: str
) -> None:
    checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b-hf")
    folder = checkpoints.lora(tmp_path / "lora", BASE)
    spoil(folder)
    with pytest.raises(kind, match=says):
        identify(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"hidden": 1536}, "for 1536 x 1536 weights, and in .* 4096 x 4096", id="another width"),
        pytest.param({"layers": 40}, r"changes .*layers\.32\.self_attn\.q_proj, which", id="more layers"),
    ],
)
def test_a_lora_of_another_model_is_refused(tmp_path: Path, changes: dict[str, int], says: str) -> None:
    checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b-hf")
    with pytest.raises(ModelUnsupported, match=says):
        identify(checkpoints.lora(tmp_path / "lora", BASE, **changes))


def test_a_lora_of_another_family_is_refused(tmp_path: Path) -> None:
    checkpoints.chatglm3_6b(tmp_path / "glm")
    with pytest.raises(ModelUnsupported, match=r"q_proj, which glm does not have"):
        identify(checkpoints.lora(tmp_path / "lora", "glm"))


def test_its_rank_is_that_of_its_weights(tmp_path: Path) -> None:
    checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b-hf")
    folder = checkpoints.lora(tmp_path / "lora", BASE, rank=16)
    _named(BASE)(folder)
    found = identify(folder).adapter
    assert found is not None
    assert found.rank == 16
