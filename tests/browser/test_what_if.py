"""Plans for machines that one does not have, and what this one would need."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, OpenPage, Served
from tests.browser.steps import choose, open_fold

Shoot = Callable[[Page, str], None]


@pytest.fixture
def page(planned_page: Served, open_page: OpenPage) -> Page:
    """LLaVA-1.5-7B on two 12 GB cards, with the fold open."""
    opened = open_page(planned_page)
    choose(opened, "Model", "llava-1.5-7b")
    expect(opened.locator("#plan")).to_contain_text("32 layers on GPU")
    open_fold(opened, "whatif")
    return opened


def test_there_with_one_choice_and_back_with_one_click(page: Page, shoot: Shoot) -> None:
    choose(page, "Plan for", "Laptop: RTX 3060")
    expect(page.locator("#plan")).to_contain_text("Not this machine: Laptop: RTX 3060 6 GB, 16 GB")
    # Half of the layers would have to compute on its processor anyway, where llama.cpp answers sooner.
    expect(page.locator("#plan .sn-headline")).to_contain_text("llama.cpp · 4-bit (Q4_0) · 32 layers on CPU")
    expect(page.locator("#load")).to_be_disabled()
    expect(page.locator("#setup-note")).to_contain_text("Only a plan for this machine")
    expect(page.get_by_role("spinbutton", name="GB each")).to_have_value("6")
    shoot(page, "what-if")
    page.get_by_role("button", name="Back to this machine").click()
    expect(page.locator("#plan")).not_to_contain_text("Not this machine")
    expect(page.locator("#plan")).to_contain_text("32 layers on GPU")
    expect(page.locator("#load")).to_be_enabled()
    expect(page.get_by_role("combobox", name="Plan for")).to_have_value("This machine")


def test_a_machine_of_ones_own(page: Page) -> None:
    choose(page, "Plan for", "A machine of your own")
    expect(page.locator("#plan")).to_contain_text("Not this machine: 1 x NVIDIA GeForce RTX 3060")
    page.get_by_role("spinbutton", name="Cards").fill("2")
    expect(page.locator("#plan")).to_contain_text("2 x NVIDIA")
    page.get_by_role("spinbutton", name="Cards").fill("99")
    expect(page.locator("#whatif-check")).to_contain_text("The number of cards can't be 99")
    expect(page.locator("#plan")).to_contain_text("2 x NVIDIA")


def test_a_description_from_the_field(page: Page, tmp_path: Path) -> None:
    path = ROOT / "tests" / "hardware" / "laptop_6gb.json"
    broken = tmp_path / "broken.json"
    broken.write_text('{"os": "linux", "gpus": [', encoding="utf-8")
    open_fold(page, "whatif-described")
    upload = page.locator("#whatif-described input[type=file]")
    upload.set_input_files(broken)
    expect(page.locator("#whatif-check")).to_contain_text("can't be read")
    expect(page.locator("#plan")).not_to_contain_text("Not this machine")
    upload.set_input_files(path)
    expect(page.locator("#plan")).to_contain_text("Not this machine: the machine described below")
    described = page.get_by_label("Hardware as JSON")
    machine = json.loads(described.input_value())
    machine["gpus"] = []
    described.fill(json.dumps(machine))
    expect(page.locator("#plan")).to_contain_text("layers on CPU")


def test_what_would_i_need(page: Page) -> None:
    choose(page, "Plan for", "Laptop: RTX 3060")
    expect(page.locator("#plan")).to_contain_text("Not this machine")
    choose(page, "Preset", "High VRAM")
    expect(page.locator("#plan")).to_contain_text("does not fit")
    page.get_by_role("button", name="What would I need?").click()
    expect(page.locator("#whatif-answer li").first).to_be_visible()
    page.get_by_role("button", name="Make this change").click()
    expect(page.locator("#plan")).not_to_contain_text("does not fit")
    expect(page.locator("#whatif-answer li")).to_have_count(0)


def test_what_a_person_empties_is_empty(page: Page) -> None:
    choose(page, "Plan for", "This machine")
    open_fold(page, "custom")
    open_fold(page, "memory-box")
    folder = page.locator("#offload textarea, #offload input").first
    folder.fill("/tmp/weights")
    expect(page.locator("#custom-intro")).to_contain_text("/tmp/weights")
    folder.fill("")
    expect(page.locator("#custom-intro")).not_to_contain_text("/tmp/weights")

    open_fold(page, "whatif-described")
    described = page.get_by_label("Hardware as JSON")
    described.fill('{"os": "linux", "gpus": [], "ram": {"total_bytes": 8589934592}}')
    expect(page.locator("#plan")).to_contain_text("Not this machine")
    described.fill("")
    expect(page.locator("#plan")).not_to_contain_text("Not this machine")
