"""What a person's choices do to a tab: presets, models, settings, maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import DeviceMapInvalid, SettingInvalid
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support import machines
from tests.support.planning_tab import HALVES, TWO, Tab
from ui.i18n import LANGUAGES, Translator
from ui.web import wiring_whatif as whatif
from ui.web.machines import Parts
from ui.web.panels import custom as custom_panel
from ui.web.planning import change, check_draft, make_plan, map_written, settle, undo, use_draft
from ui.web.redrawing import above_plan


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def tab(home: Path) -> Iterator[Tab]:
    made = Tab(home)
    yield made
    made.service.close()


def test_a_setting_that_the_preset_does_not_mean_makes_it_custom(tab: Tab) -> None:
    settle(tab.context, tab.session, tab.llava, Preset.MID)
    change(tab.context, tab.session, Overrides(context_tokens=2048))
    assert tab.request.preset is Preset.MID
    change(tab.context, tab.session, Overrides(context_tokens=2048, precision="nf4"))
    assert tab.request.preset is Preset.CUSTOM
    assert "Balanced" in above_plan(tab.session)


def test_another_preset_keeps_what_makes_sense_and_names_the_rest(tab: Tab) -> None:
    change(tab.context, tab.session, Overrides(context_tokens=2048, gpus=(1,), gpu_layers=12))
    settle(tab.context, tab.session, tab.llava, Preset.CPU)
    assert tab.request.overrides == Overrides(context_tokens=2048)
    said = above_plan(tab.session)
    assert "GPUs to use: back to automatic, because the preset CPU only decides that." in said
    assert "Layers on the GPU" in said


def test_choosing_the_same_again_changes_nothing(tab: Tab) -> None:
    change(tab.context, tab.session, Overrides(gpu_layers=12))
    settle(tab.context, tab.session, tab.llava, Preset.AUTO)
    assert tab.request.overrides.gpu_layers == 12


def test_another_model_keeps_what_makes_sense_and_names_the_rest(tab: Tab) -> None:
    change(tab.context, tab.session, Overrides(gpu_layers=30, images=2, precision="nf4"))
    settle(tab.context, tab.session, tab.text, Preset.AUTO)
    assert tab.request.overrides == Overrides(precision="nf4")
    assert len(tab.session.notes) == 2


def test_a_model_that_is_not_there_loses_nothing(tab: Tab) -> None:
    change(tab.context, tab.session, Overrides(gpu_layers=30))
    settle(tab.context, tab.session, "/nowhere", Preset.AUTO)
    assert tab.request.overrides.gpu_layers == 30
    assert tab.draw()


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        ("gpu_layers", Overrides(max_memory=(("cuda:0", 1), ("cpu", 2)))),
        ("max_memory:cuda:0", Overrides(gpu_layers=3, max_memory=(("cpu", 2),))),
        ("max_memory:cuda:7", Overrides(gpu_layers=3, max_memory=(("cuda:0", 1), ("cpu", 2)))),
        ("no_such_setting", Overrides(gpu_layers=3, max_memory=(("cuda:0", 1), ("cpu", 2)))),
    ],
)
def test_one_setting_goes_back_to_automatic(tab: Tab, setting: str, left: Overrides) -> None:
    change(tab.context, tab.session, Overrides(gpu_layers=3, max_memory=(("cuda:0", 1), ("cpu", 2))))
    undo(tab.context, tab.session, setting)
    assert tab.request.overrides == left


# The map's editor.


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("* = cuda:5", "does not exist here"),
        ("model.langage_model = cpu", "model.language_model"),
        ("model.language_model.layers.0.mlp = cpu\n* = cpu", "lies inside"),
        ("lm_head = cpu", "forgets"),
        ("* = disk", "something must compute"),
        ("* = cpu\n* = cpu", "twice"),
        ("", "places nothing"),
    ],
)
def test_a_map_is_checked_while_it_is_written(tab: Tab, text: str, says: str) -> None:
    tab.draw()
    check_draft(tab.context, tab.session, text)
    assert isinstance(tab.session.draft_plan, DeviceMapInvalid)
    assert tab.request.overrides.device_map is None
    sent = tab.draw("map_text")
    assert says in sent["map_check"]["value"]
    assert sent["map_use"]["interactive"] is False
    assert "value" not in sent.get("map_text", {})


def test_a_map_is_used_and_given_up_again(tab: Tab) -> None:
    change(tab.context, tab.session, Overrides(gpu_layers=12))
    tab.draw()
    check_draft(tab.context, tab.session, HALVES)
    assert tab.request.overrides.device_map is None
    use_draft(tab.context, tab.session, HALVES)
    plan = make_plan(tab.context, tab.request)
    assert isinstance(plan, Plan)
    assert {device for _, device in plan.device_map} == {"cuda:0", "cuda:1"}
    assert "Layers on the GPU" in above_plan(tab.session)
    sent = tab.draw("map_text")
    assert sent["gpu_layers"]["interactive"] is False
    assert '"model.language_model.layers.31": "cuda:1"' in sent["map_json"]["value"]
    assert "device_map=device_map.json" in sent["command"]["value"]
    undo(tab.context, tab.session, "device_map")
    assert tab.request.overrides.device_map is None
    assert tab.session.drafts == {}


def test_the_text_that_the_page_wrote_is_nobodys_draft(tab: Tab) -> None:
    written = tab.draw()["map_text"]["value"]
    map_written(tab.context, tab.session, written)
    assert tab.session.drafts == {}


def test_a_browser_that_tells_late_of_the_pages_text_changes_no_draft(tab: Tab) -> None:
    """Its event can arrive while "Use this map" is worked on, which must take what it was given."""
    written = tab.draw()["map_text"]["value"]
    use_draft(tab.context, tab.session, HALVES)
    map_written(tab.context, tab.session, written)
    assert tab.session.drafts[tab.request.model] == HALVES
    assert tab.request.overrides.device_map is not None


def test_a_draft_waits_for_its_model(tab: Tab) -> None:
    check_draft(tab.context, tab.session, HALVES)
    settle(tab.context, tab.session, tab.qwen, Preset.AUTO)
    assert tab.draw()["map_text"]["value"] != HALVES
    settle(tab.context, tab.session, tab.llava, Preset.AUTO)
    assert tab.draw()["map_text"]["value"] == HALVES


# What the page is sent.


def test_only_what_changed_is_sent_and_never_under_the_hand(tab: Tab) -> None:
    assert tab.draw()
    assert tab.draw() == {}
    change(tab.context, tab.session, Overrides(gpu_layers=12))
    sent = tab.draw("gpu_layers")
    assert "value" not in sent["gpu_layers"]
    assert "by hand" in sent["gpu_layers"]["label"]
    assert "--set gpu_layers=12" in sent["command"]["value"]
    tab.session.forget_shown()
    assert tab.draw() == {}
    undo(tab.context, tab.session, "gpu_layers")
    assert tab.draw()["gpu_layers"]["value"] == 32


def test_the_slider_ends_where_the_model_does(tab: Tab) -> None:
    tab.draw()
    settle(tab.context, tab.session, tab.qwen, Preset.AUTO)
    assert tab.draw()["gpu_layers"]["maximum"] == 28


def test_detail_is_offered_where_the_model_has_it_with_what_it_takes(tab: Tab) -> None:
    assert tab.draw()["image_tokens"]["visible"] is False
    settle(tab.context, tab.session, tab.qwen, Preset.AUTO)
    first = tab.draw()
    assert first["image_tokens"]["visible"] is True
    assert "1,282 tokens" in first["cost"]["value"]
    change(tab.context, tab.session, Overrides(image_tokens=300))
    assert "300 tokens" in tab.draw("image_tokens")["cost"]["value"]


def test_a_gguf_file_has_the_same_controls_with_a_build_for_gpus(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.service.facade.computes_on_gpus", lambda: True)
    tab.draw()
    settle(tab.context, tab.session, tab.gguf, Preset.AUTO)
    drawn = tab.draw()
    assert drawn["gpu_layers"]["maximum"] == 28
    assert "1,282 tokens" in drawn["cost"]["value"]
    change(tab.context, tab.session, Overrides(gpu_layers=12))
    made = make_plan(tab.context, tab.request, None)
    assert isinstance(made, Plan)
    assert (made.engine, made.gpu_layers) == ("llamacpp", 12)
    assert "1,282 tokens" in tab.draw("gpu_layers").get("cost", drawn["cost"])["value"]
    change(tab.context, tab.session, Overrides(precision="nf4"))
    assert isinstance(make_plan(tab.context, tab.request, None), SettingInvalid)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("model", ["llava", "qwen", "text", "gguf"])
def test_every_control_has_a_name_and_a_sentence(tab: Tab, language: str, model: str) -> None:
    asked = PlanRequest(getattr(tab, model))
    about = custom_panel.About(asked, make_plan(tab.context, asked), tab.service.inspect(asked.model), TWO)
    view = custom_panel.view(Translator(language), about)  # type: ignore[arg-type]
    silent = {"box", "intro", "cost", "map_check", "map_use", "map_auto", "reset", "memory_box", "map_box"}
    silent.add("kept")  # nobody sees it
    assert set(view) == set(custom_panel.NAMES)
    for name in set(view) - silent:
        if view[name].props.get("visible", True):
            assert view[name].props["label"]
            assert view[name].props["info"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (Overrides(context_tokens=999_999), '"Context (tokens)" can\'t be 999999.'),
        (Overrides(gpu_layers=99), '"Layers on the GPU" can\'t be 99.'),
        (Overrides(images=-1), '"Pictures per chat" can\'t be -1.'),
        (Overrides(max_memory=(("cuda:0", -1),)), "The limit of cuda:0 can't be -1."),
    ],
    ids=["context", "layers", "pictures", "limit"],
)
def test_errors_name_settings_as_the_page_does(tab: Tab, overrides: Overrides, says: str) -> None:
    change(tab.context, tab.session, overrides)
    found = make_plan(tab.context, tab.request)
    assert isinstance(found, SettingInvalid)
    assert Translator("en").text(found.what_text) == says
    assert "_" not in Translator("zh").text(found.what_text)


def test_any_gpu_can_be_limited_however_many_there_are(tab: Tab) -> None:
    many = machines.machine(*(machines.gpu(index) for index in range(16)), ram=64)
    tab.service._machine.usable = lambda *_: many  # type: ignore[method-assign]
    shown = tab.draw()
    assert len(shown["limited_gpu"]["choices"]) == 16
    assert shown["limited_gpu"]["value"] == 0
    tab.session.limited = 15
    change(tab.context, tab.session, Overrides(max_memory=(("cuda:15", 6 << 30),)))
    shown = tab.draw()
    assert shown["gpu_limit"]["label"].startswith("15 · RTX 3090")
    assert shown["gpu_limit"]["label"].endswith("by hand")
    assert shown["gpu_limit"]["value"] == 6
    assert shown["limited_gpu"]["choices"][15][0].endswith("at most 6.0 GB")


def test_one_gpu_needs_no_choice_and_none_has_no_limit(tab: Tab) -> None:
    tab.service._machine.usable = lambda *_: machines.machine(machines.gpu(0), ram=32)  # type: ignore[method-assign]
    shown = tab.draw()
    assert not shown["limited_gpu"]["visible"]
    assert shown["gpu_limit"]["visible"]
    tab.service._machine.usable = lambda *_: machines.machine(ram=32)  # type: ignore[method-assign]
    assert not tab.draw()["gpu_limit"]["visible"]


@pytest.mark.parametrize(
    "parts", [Parts(ram_gib=-5), Parts(ram_gib=0), Parts("A100", 1, -1), Parts("A100", 1, 9e9)]
)
def test_sizes_that_cannot_be_are_said_in_the_fields_own_words(tab: Tab, parts: Parts) -> None:
    with pytest.raises(SettingInvalid, match=r'"GB (of RAM|each)" can\'t be') as caught:
        whatif.put_together(tab.context, tab.session, parts)
    assert "bytes" not in str(caught.value)


def test_engine_and_precision_are_offered_together(tab: Tab) -> None:
    drawn = tab.draw()
    assert [value for _, value in drawn["engine"]["choices"]] == ["", "transformers", "llamacpp"]
    assert {"bf16", "int8", "q8_0", "q4_0", "f16"} <= {value for _, value in drawn["precision"]["choices"]}
    change(tab.context, tab.session, Overrides(engine="transformers"))
    drawn = tab.draw()
    assert not {"q8_0", "q4_0", "f16"} & {value for _, value in drawn["precision"]["choices"]}
    assert drawn["engine"]["value"] == "transformers"
    assert "Engine: <b>transformers</b>" in drawn["intro"]["value"]
    assert "--set engine=transformers" in drawn["command"]["value"]


def test_a_gguf_file_leaves_nothing_of_both_to_choose(tab: Tab) -> None:
    settle(tab.context, tab.session, tab.gguf, Preset.CPU)
    drawn = tab.draw()
    for control in ("engine", "precision"):
        assert [value for _, value in drawn[control]["choices"]] == [""]
        assert drawn[control]["interactive"] is False
        assert "GGUF" in drawn[control]["info"]
    assert [drawn[name]["visible"] for name in ("cpu_layers_mode", "offload_dir", "map_box")] == [False] * 3
