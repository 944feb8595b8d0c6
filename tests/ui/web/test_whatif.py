"""Another machine: described, put together, asked what this model would need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import SettingInvalid
from backends.placement.needs import Needs
from backends.placement.types import Overrides
from backends.presets import Preset
from tests.support.planning_tab import Tab
from ui.i18n import LANGUAGES, Translator
from ui.web import wiring_whatif as whatif
from ui.web.machines import Parts
from ui.web.panels import whatif as whatif_panel
from ui.web.planning import change, settle
from ui.web.redrawing import above_plan, whatif_updates


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def tab(home: Path) -> Iterator[Tab]:
    made = Tab(home)
    yield made
    made.service.close()


def test_there_and_back_again_with_everything_as_it_was(tab: Tab) -> None:
    before = Overrides(gpus=(1,), gpu_layers=20, max_memory=(("cuda:1", 2**33),), context_tokens=2048)
    change(tab.context, tab.session, before)
    whatif.choose(tab.context, tab.session, "office")
    assert tab.request.overrides == Overrides(context_tokens=2048)
    assert "Not this machine" in above_plan(tab.session)
    assert "--hardware machine.json" in tab.draw()["command"]["value"]
    whatif.choose(tab.context, tab.session, "")
    assert tab.request.overrides == before
    assert above_plan(tab.session) == ""


def test_from_one_machine_to_the_next_the_way_back_stays(tab: Tab) -> None:
    change(tab.context, tab.session, Overrides(gpus=(1,)))
    whatif.choose(tab.context, tab.session, "office")
    whatif.choose(tab.context, tab.session, "server_8")
    whatif.leave(tab.context, tab.session)
    assert tab.request.overrides.gpus == (1,)


def test_a_machine_is_put_together_or_refused(tab: Tab) -> None:
    whatif.put_together(tab.context, tab.session, Parts("NVIDIA GeForce RTX 4090", 2, 24, 64))
    assert tab.session.elsewhere is not None
    assert len(tab.session.elsewhere.hardware.gpus) == 2
    for wrong in (Parts("NVIDIA GeForce RTX 4090", 99, 24), Parts("NVIDIA GeForce RTX 4090", -1, 24)):
        with pytest.raises(SettingInvalid):
            whatif.put_together(tab.context, tab.session, wrong)
    assert len(tab.session.elsewhere.hardware.gpus) == 2


def test_a_description_is_pasted(tab: Tab) -> None:
    with pytest.raises(SettingInvalid):
        whatif.describe(tab.context, tab.session, '{"os": "linux"}')
    assert tab.session.elsewhere is None
    whatif.describe(
        tab.context, tab.session, '{"os": "linux", "gpus": [], "ram": {"total_bytes": 8589934592}}'
    )
    assert tab.session.elsewhere is not None
    whatif.describe(tab.context, tab.session, " ")
    assert tab.session.elsewhere is None


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x" * 2_000_000], ids=["no text", "too much of it"])
def test_a_file_that_is_no_description(tab: Tab, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_bytes(content)
    with pytest.raises(SettingInvalid):
        whatif.upload(tab.context, tab.session, str(path))


def test_what_is_needed_is_answered_for_the_request_at_hand(tab: Tab) -> None:
    whatif.choose(tab.context, tab.session, "laptop_6")
    settle(tab.context, tab.session, tab.llava, Preset.HIGH)
    whatif.ask_needs(tab.context, tab.session)
    assert tab.session.needs is not None
    answer = tab.session.needs[1]
    assert isinstance(answer, Needs)
    assert answer.change is not None
    updates = whatif_updates(tab.context, tab.session, ())
    assert any("sn-needs" in str(update) for update in updates)
    whatif.take(tab.context, tab.session)
    assert tab.request == answer.change
    gone = whatif_updates(tab.context, tab.session, ())
    assert not any("sn-needs" in str(update) for update in gone)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("machine", ["", "laptop_6"], ids=["here", "elsewhere"])
def test_every_field_of_another_machine_has_a_name_and_a_sentence(
    tab: Tab, language: str, machine: str
) -> None:
    whatif.choose(tab.context, tab.session, machine)
    view = whatif_panel.view(Translator(language), whatif_panel.About(tab.session.elsewhere))  # type: ignore[arg-type]
    for name in ("machine", "card", "count", "gib", "ram", "os", "description"):
        assert view[name].props["label"]
        assert view[name].props["info"].endswith((".", "。"))
    for name in ("described", "upload"):
        assert view[name].props["label"]
    assert view["answer"].value.endswith((".</p>", "。</p>")), "what the button beside it finds out"


def test_no_answer_says_this_machine_of_another_one(tab: Tab) -> None:
    for machine in ("laptop_6", "server_8", "office"):
        whatif.choose(tab.context, tab.session, machine)
        for preset in Preset:
            settle(tab.context, tab.session, tab.llava, preset)
            whatif.ask_needs(tab.context, tab.session)
            assert tab.session.needs is not None
            found = tab.session.needs[1]
            assert isinstance(found, Needs)
            said = " ".join(map(str, found.sentences))
            assert "this machine" not in said.lower()
            assert "this one" not in said.lower()
