"""Memory runs out under a tab: the card, the step, the answer and the way back, through a real worker."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends.errors import Action, OutOfGpuMemory, OutOfRam, RamKilled
from backends.placement.ladder import Rung
from tests.support.climbing_tab import Open
from ui.i18n import LANGUAGES, Translator
from ui.web import climbing, notices
from ui.web.wiring_model import act_on_model, current_notice


@pytest.mark.parametrize(
    ("machine", "device"),
    [("no_gpu_32gb", "The machine"), ("rtx3090", "NVIDIA GeForce RTX 3090 (GPU 0)")],
    ids=["in RAM", "on a GPU"],
)
def test_a_question_with_a_picture_the_step_the_answer_and_back(
    open_tab: Open, picture: Path, machine: str, device: str
) -> None:
    tab = open_tab(machine=machine)
    tab.load()
    start = tab.session.request
    room = tab.service.plan(start).context_tokens  # type: ignore[arg-type]
    tab.ask("first")
    tab.ask(f"oom-over:{room - 1}", picture)

    card = tab.card
    assert card is not None
    assert card.action is Action.STEP_DOWN
    said = tab.says()
    assert f"{device} ran out of memory while looking at the picture." in said
    assert "4.0 MB" in said
    assert "1.0 MB were free." in said
    assert "Next step: Keep less room for the answer. There is room for" in said
    assert said.endswith("|Keep less room for the answer")

    box, model, preset = tab.press()
    assert "value" not in box.constructor_args, "the draft stays where it is"
    assert preset["value"] == "auto"
    assert model["value"] == start.model  # type: ignore[union-attr]
    last = tab.session.turns[-1]
    assert [turn.status for turn in tab.session.turns] == ["done", "done"]
    assert last.question.images
    assert "I see 1 picture" in last.answer
    state = tab.service.state()
    assert state.plan is not None
    assert state.plan.context_tokens < room
    assert tab.session.request == state.plan.request

    assert "Done: Keep less room for the answer" in tab.says()
    assert tab.says().endswith("|Undo")
    tab.press()
    assert tab.session.request == start
    assert tab.service.state().plan.request == start  # type: ignore[union-attr]
    assert len(tab.session.turns) == 2
    assert tab.card is None


def test_at_load_the_question_that_waited_is_answered(open_tab: Open) -> None:
    tab = open_tab("oom-load-bf16 图", engine="transformers")
    tab.loader.load(tab.service.plan(tab.session.request))  # type: ignore[arg-type]
    tab.ask("hello")
    assert tab.session.turns[-1].status == "failed"
    assert isinstance(tab.session.error, OutOfRam)
    assert "ran out of memory while loading" in tab.says()
    assert tab.says().endswith("|Use llama.cpp")
    assert "is converted for llama.cpp first, once" in tab.says()

    tab.press()
    assert tab.session.turns[-1].answer.endswith("You said: hello")
    plan = tab.service.state().plan
    assert plan is not None
    assert (plan.engine, plan.precision) == ("llamacpp", "q8_0")


def test_what_llama_cpp_could_not_load_is_not_sent_back_to_it(open_tab: Open) -> None:
    tab = open_tab("oom-load-bf16", engine="llamacpp")
    tab.session.request = act_on_model(tab.context, tab.session, Action.USE_TRANSFORMERS, None)
    tab.wait(lambda: not tab.loader.busy)
    assert "ran out of memory while loading" in tab.says()
    offer = tab.session.climb.offer
    assert offer is not None
    assert offer.failed.engine == "transformers"
    assert Rung.LLAMACPP not in {step.rung for step in offer.steps}
    # Another tab has not seen it fail.
    other: Any = SimpleNamespace(session_hash="two")
    theirs = current_notice(tab.context, tab.context.session(other))
    assert theirs is not None
    assert theirs.button(Translator("en")) == "Use llama.cpp"


def test_at_load_without_a_question_another_tab_is_told_as_well(open_tab: Open) -> None:
    tab = open_tab("oom-load-bf16", engine="transformers")
    tab.load()
    other: Any = SimpleNamespace(session_hash="two")
    theirs = current_notice(tab.context, tab.context.session(other))

    assert theirs is not None
    assert theirs.button(Translator("en")) == "Use llama.cpp"
    tab.press()
    assert tab.session.turns == ()
    assert tab.service.state().status == "ready"


def test_llama_cpp_goes_down_within_its_own_precisions(open_tab: Open) -> None:
    tab = open_tab("oom-load-q8_0", engine="llamacpp", precision="q8_0")
    tab.load()
    assert "ran out of memory while loading" in tab.says()
    assert tab.card is not None
    assert tab.says().endswith("|Keep less room for the answer")
    tab.press()
    assert tab.says().endswith("|Load in 4-bit")
    assert "q4_0 instead of q8_0: answers get rougher." in tab.says()
    tab.press()
    plan = tab.service.state().plan
    assert plan is not None
    assert (plan.engine, plan.precision) == ("llamacpp", "q4_0")


def test_step_after_step_until_it_fits_each_undone_in_turn(open_tab: Open) -> None:
    tab = open_tab()
    tab.load()
    start = tab.session.request
    tab.ask("oom-over:1")
    seen = []
    while tab.card is not None and tab.card.action is Action.STEP_DOWN:
        seen.append(tab.session.climb.offer.step.rung)  # type: ignore[union-attr]
        tab.press()
        assert len(seen) < 20
    assert seen[0] is Rung.CONTEXT
    assert len(seen) == len(tab.session.climb.taken) > 1
    assert "There is nothing more to try with this model here." in tab.says()
    assert tab.says().endswith("|"), "no button that leads nowhere"
    requests = [taken.before for taken in tab.session.climb.taken]
    assert len(set(requests)) == len(requests)

    tab.handlers.dismiss(tab.request)
    while tab.card is not None and tab.card.action is Action.UNDO_STEP:
        tab.press()
    assert tab.session.request == start


def test_another_step_than_the_next_is_taken_and_undone(open_tab: Open, picture: Path) -> None:
    tab = open_tab(engine="transformers")
    tab.load()
    start = tab.session.request
    room = tab.service.plan(start).context_tokens  # type: ignore[arg-type]
    tab.ask(f"oom-over:{room - 1} oom-while-bf16", picture)
    said = unescape(tab.says())
    assert said.endswith("|Keep less room for the answer")
    assert "Load in 8-bit</button>" in said
    assert "answers get rougher" in said, "each step says what it costs"

    def step(rung: str) -> Any:
        return tab.handlers.step(SimpleNamespace(rung=rung), {"text": "a draft", "files": []}, tab.request)  # type: ignore[arg-type]

    box, _, preset = step("nf4")[2:5]
    tab.answer()
    tab.wait(lambda: not tab.loader.busy)
    assert "value" not in box.constructor_args, "the draft stays where it is"
    assert preset["value"] == "auto"
    assert tab.session.turns[-1].question.images
    # 4-bit leaves room for more than the question allows: the ladder goes on from there.
    assert tab.service.state().plan.precision == "nf4"  # type: ignore[union-attr]
    assert tab.card is not None
    assert tab.card.action is Action.STEP_DOWN
    assert "Load in 8-bit" not in tab.says()
    tab.press()
    assert "I see 1 picture" in tab.session.turns[-1].answer
    for _ in range(2):
        assert tab.says().endswith("|Undo")
        tab.press()
    assert tab.session.request == start


@pytest.mark.parametrize("rung", ["nf4", "no such step", ""])
def test_a_step_that_is_offered_no_more_does_nothing(open_tab: Open, rung: str) -> None:
    tab = open_tab()
    tab.load()
    tab.ask("oom-over:1500")
    if rung == "nf4":
        tab.press()  # answered meanwhile
    before = tab.service.state().plan, tab.session.turns, tab.session.request
    tab.handlers.step(SimpleNamespace(rung=rung), None, tab.request)  # type: ignore[arg-type]
    assert (tab.service.state().plan, tab.session.turns, tab.session.request) == before


def test_a_second_press_does_not_undo_what_the_first_has_done(open_tab: Open) -> None:
    tab = open_tab()
    tab.load()
    tab.ask("oom-over:1500")
    said = tab.says().rpartition("|")[2]
    for _ in range(2):
        tab.handlers.act(None, tab.request, said)
    tab.answer()
    tab.wait(lambda: not tab.loader.busy)
    assert len(tab.session.climb.taken) == 1
    assert tab.says().endswith("|Undo")


def test_an_answer_forgets_what_ran_out_before(open_tab: Open) -> None:
    tab = open_tab()
    tab.load()
    tab.ask("oom")
    assert tab.session.climb.tried
    tab.ask("hello")
    assert not tab.session.climb.tried
    assert tab.card is None or tab.card.action is not Action.STEP_DOWN


def test_the_notice_of_a_step_can_be_put_away(open_tab: Open) -> None:
    tab = open_tab()
    tab.load()
    tab.ask("oom-over:1500")
    tab.press()
    assert tab.card is not None
    assert tab.card.action is Action.UNDO_STEP
    tab.handlers.dismiss(tab.request)
    assert tab.card is None
    assert tab.session.turns[-1].status == "done"


def test_a_model_that_goes_away_leaves_the_error(open_tab: Open) -> None:
    tab = open_tab()
    tab.load()
    plan = tab.service.state().plan
    assert plan is not None
    for file in Path(plan.model_path).iterdir():
        file.unlink()
    tab.ask("oom-over:1")
    card = tab.card
    assert card is not None
    assert card.offer is None
    assert "4.0 MB were needed" in tab.says()
    tab.handlers.act(None, tab.request)
    assert tab.service.state().plan == plan


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "error",
    [
        OutOfGpuMemory(device="GPU 0", stage="answering", needed_bytes=5 << 20, free_bytes=1 << 20),
        OutOfRam(stage="answering", needed_bytes=0, free_bytes=1 << 20),
        RamKilled(stage="answering", needed_bytes=5 << 20, free_bytes=1 << 20),
    ],
    ids=["GPU", "RAM", "ended by the system"],
)
def test_both_languages_say_what_why_and_how(open_tab: Open, error: Any, language: Any) -> None:
    tab = open_tab()
    plan = tab.service.plan(tab.session.request)  # type: ignore[arg-type]
    found = tab.service.next_step(error, plan, "chat")
    say = Translator(language)
    card = notices.choose((), "ready", error, None, offer_for=lambda _error: found)

    assert card is not None
    html = unescape(card.html(say))
    assert say.text(found.error.what_text) in html
    assert say.text(found.error.why_text) in html
    if found.step is None:
        assert say.text(found.nothing) in html  # type: ignore[arg-type]
    else:
        assert say.text(found.step.name) in html
        assert all(say.text(cost) in html for cost in found.step.costs)


def test_a_crash_for_want_of_memory_leads_down_the_ladder_and_other_crashes_restart(open_tab: Open) -> None:
    tab = open_tab()
    killed = RamKilled(stage="answering", needed_bytes=1, free_bytes=1)
    found = tab.service.next_step(killed, tab.service.plan(tab.session.request), "chat")  # type: ignore[arg-type]
    card = notices.choose((), "crashed", None, killed, offer_for=lambda _error: found)
    assert card is not None
    assert card.action is Action.STEP_DOWN


def test_without_a_step_nothing_is_taken_or_undone(open_tab: Open) -> None:
    tab = open_tab()
    assert climbing.take(tab.context, tab.session) is None
    assert climbing.undo(tab.context, tab.session) is None


def test_what_runs_out_while_the_next_plan_waits_is_not_blamed_on_that_one(
    open_tab: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move lets the answer under way end first; if that runs out, the way on is taken already."""
    tab = open_tab()
    tab.load()
    moving = replace(tab.service.state(), status="loading", moving=True)
    monkeypatch.setattr(tab.service, "state", lambda: moving)
    error = OutOfRam(stage="answering", needed_bytes=4 << 20, free_bytes=0)
    climbing.failed(tab.context, tab.session, error)
    assert tab.session.climb.failure is None
    assert tab.session.climb.tried == {}
