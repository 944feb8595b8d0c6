"""A loaded model is rearranged in front of a person: said before, shown while it happens, nothing lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import (
    answer_again,
    ask,
    choose,
    message_box,
    open_fold,
    turns,
    wait_for_answer,
    wait_until_ready,
)
from tests.browser.test_custom import slide

IN_MEMORY = "takes its new places in memory; its files are not read again"
AGAIN = "It has to be loaded again"


def said(answer: Locator) -> str:
    """An answer without its figures."""
    return answer.inner_text().split("\n")[1]


def take_layers(page: Page, share: float) -> None:
    """Drag the slider, let go, and see the plan come to rest."""
    open_fold(page, "custom")
    slide(page, "gpu-layers", share)
    page.mouse.up()
    held = page.locator("#gpu-layers input[type=range]").input_value()
    expect(page.locator("#plan .sn-headline")).to_contain_text(f"{held} layers on GPU")
    expect(page.locator("#command textarea")).to_have_value(re.compile(f"gpu_layers={held}$"))


@pytest.fixture
def page(planned_page: Served, open_page: OpenPage) -> Page:
    """A model of 7 B whose moves take a second, loaded on two 12 GB cards."""
    opened = open_page(planned_page)
    choose(opened, "Model", "llava-slow-move")
    expect(opened.locator("#plan")).to_contain_text("32 layers on GPU")
    load = opened.locator("#load")
    if load.inner_text() != "Loaded":  # by the test before
        load.click()
    expect(load).to_have_text("Loaded")
    return opened


def test_fewer_layers_on_the_gpu_are_moved_while_the_draft_waits(page: Page, planned_page: Served) -> None:
    worker = planned_page.worker_pid
    expect(page.locator("#load")).to_have_text("Loaded")
    expect(page.locator("#setup-note")).to_be_empty()
    ask(page, "hello")
    wait_for_answer(page, 1)
    message_box(page).fill("a draft")

    take_layers(page, 0.7)
    expect(page.locator("#setup-note")).to_contain_text(IN_MEMORY)
    expect(page.locator("#load")).to_have_text("Rearrange")
    page.locator("#load").click()
    expect(page.locator("#load")).to_have_text("Moving…")
    expect(page.locator("#status")).to_contain_text(re.compile(r"Moving \d+ %"))
    wait_until_ready(page)
    expect(page.locator("#status")).to_contain_text("GPU + CPU")
    expect(page.locator("#load")).to_have_text("Loaded")
    expect(page.locator("#plan .sn-speed")).to_contain_text("moved in")
    assert planned_page.worker_pid == worker

    expect(message_box(page)).to_have_value("a draft")
    message_box(page).press("Enter")
    expect(wait_for_answer(page, 2)).to_contain_text("You said: a draft")


def test_what_is_stopped_goes_back_and_what_needs_the_files_says_so(page: Page, planned_page: Served) -> None:
    worker = planned_page.worker_pid
    take_layers(page, 0.6)
    page.locator("#load").click()
    expect(page.locator("#load")).to_have_text("Moving…")
    page.get_by_role("button", name="Cancel", exact=True).click()
    wait_until_ready(page)
    expect(page.locator("#load")).to_have_text("Rearrange")
    assert planned_page.worker_pid == worker

    page.get_by_role("button", name="Reset to automatic").click()
    choose(page, "Preset", "Low VRAM")
    expect(page.locator("#setup-note")).to_contain_text(f"{AGAIN}: Its weights are loaded as fp16; nf4")
    expect(page.locator("#load")).to_have_text("Load this")
    page.get_by_text("中", exact=True).click()
    expect(page.locator("#setup-note")).to_contain_text("需要重新加载：其权重以 fp16 加载")


def test_the_starter_goes_to_the_disk_and_back_and_answers_the_same(
    starter_page: Served, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(starter_page)
    wait_until_ready(page)
    worker = starter_page.worker_pid
    open_fold(page, "generation")
    page.get_by_role("spinbutton", name=re.compile("Temperature")).fill("0")
    ask(page, "How many shapes are there?", picture)
    before = said(wait_for_answer(page, 1))

    open_fold(page, "custom")
    open_fold(page, "map-box")
    page.get_by_label("Device map").fill("* = cpu\nmodel.language_model.layers.1 = disk")
    page.get_by_role("button", name="Use this map").click()
    expect(page.locator("#setup-note")).to_contain_text(IN_MEMORY)
    page.locator("#load").click()
    expect(page.locator("#status")).to_contain_text("Ready · fp32 · CPU + disk")
    assert starter_page.worker_pid == worker
    # The answer's figures are of the plan from before: nothing is measured of this one yet.
    expect(page.locator("#plan .sn-held")).to_have_count(0)
    answer_again(page)
    assert said(wait_for_answer(page, 1)) == before
    expect(page.locator("#plan .sn-held").first).to_be_visible()

    page.get_by_role("button", name="Reset to automatic").click()
    expect(page.locator("#load")).to_have_text("Rearrange")
    page.locator("#load").click()
    expect(page.locator("#status")).to_have_text("Ready · fp32 · CPU")
    assert starter_page.worker_pid == worker

    page.get_by_role("spinbutton", name=re.compile("^Context")).fill("1024")
    expect(page.locator("#setup-note")).to_contain_text("Nothing has to move")
    expect(page.locator("#load")).to_have_text("Apply")
    page.locator("#load").click()
    expect(page.locator("#load")).to_have_text("Loaded")
    assert starter_page.worker_pid == worker
    expect(turns(page)).to_have_count(1)
