"""A checkpoint is converted for llama.cpp in front of a person: seen, stopped, kept, cleared, or refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, OpenPage, Served
from tests.browser.steps import ask, choose, message_box, open_fold, wait_for_answer, wait_until_ready
from tests.support.converting import write_large

Shoot = Callable[[Page, str], None]
# Keeps every sentence that stood below the buttons or in the line at the top, however short.
WATCH = """() => {
  window.said = [];
  const look = () => {
    for (const place of ['#setup-note', '#status']) {
      const text = document.querySelector(place)?.innerText.trim();
      if (text && window.said.at(-1) !== text) window.said.push(text);
    }
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
  look();
}"""
HOW_FAR = re.compile(r"Converting once for llama\.cpp, \d+ %")


def name_model(page: Page, model: Path | str) -> None:
    """Type the path of a model."""
    box = page.get_by_role("combobox", name="Model")
    box.fill(str(model))
    box.press("Enter")


def load_planned(page: Page, model: str) -> None:
    """Choose a model of the pretended machine, without its GPUs, and load it."""
    choose(page, "Model", model)
    choose(page, "Preset", "CPU only")
    expect(page.locator("#plan .sn-headline")).to_contain_text("llama.cpp · 8-bit (Q8_0)")
    page.locator("#load").click()


@pytest.mark.timeout(600)
def test_the_starter_is_converted_once_and_answers(
    starter_page: Served, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(starter_page)
    wait_until_ready(page)
    page.evaluate(WATCH)
    choose(page, "Preset", "CPU only")
    plan = page.locator("#plan")
    expect(plan.locator(".sn-headline")).to_contain_text("llama.cpp · 8-bit (Q8_0)")
    expect(plan).to_contain_text("Will be converted once")
    page.locator("#load").click()
    expect(page.locator("#status")).to_contain_text("Ready · llama.cpp Q8_0 · CPU")
    said = "\n".join(page.evaluate("window.said"))
    assert re.search(r"Comparing with transformers|Converting once for llama\.cpp", said), said
    expect(plan).to_contain_text("Already converted")
    ask(page, "How many circles are there?", picture)
    wait_for_answer(page, 1)

    # A second time there is nothing to convert.
    page.get_by_role("button", name="Unload").click()
    expect(page.locator("#status")).to_contain_text("No model loaded")
    page.evaluate(WATCH)
    page.locator("#load").click()
    expect(page.locator("#status")).to_contain_text("Ready · llama.cpp Q8_0 · CPU")
    assert "Converting" not in "\n".join(page.evaluate("window.said"))

    # What is loaded stays; the rest goes when asked twice.
    open_fold(page, "converted")
    expect(page.locator("#converted")).to_contain_text("belong to the loaded model and stay")
    expect(page.get_by_role("button", name="Clear", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Unload").click()
    expect(page.locator("#status")).to_contain_text("No model loaded")
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#converted")).to_contain_text("A model is converted again")
    page.get_by_role("button", name="Keep", exact=True).click()
    assert list((starter_page.home / "converted").glob("*.gguf"))
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator("#converted")).to_contain_text("came free")
    assert not list((starter_page.home / "converted").glob("*.gguf"))
    expect(plan).to_contain_text("Will be converted once")
    page.locator("#load").click()
    wait_until_ready(page)
    choose(page, "Preset", "Recommended")
    page.locator("#load").click()
    expect(page.locator("#status")).to_contain_text(re.compile(r"Ready · (fp32|bf16)"))


@pytest.mark.timeout(600)
def test_a_conversion_that_is_stopped_leaves_nothing_but_the_draft(
    starter_page: Served, open_page: OpenPage, tmp_path: Path
) -> None:
    large = write_large(tmp_path / "large 模型", ROOT / "assets" / "starter", layers=4)
    page = open_page(starter_page)
    wait_until_ready(page)
    message_box(page).fill("a draft")
    name_model(page, large)
    choose(page, "Preset", "CPU only")
    expect(page.locator("#plan")).to_contain_text("Will be converted once")
    page.locator("#load").click()
    note = page.locator("#setup-note")
    expect(note).to_contain_text(HOW_FAR)
    expect(page.locator("#load")).to_have_text("Converting…")
    expect(page.locator("#status")).to_contain_text(re.compile(r"Converting \d+ %"))
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#status")).to_contain_text("No model loaded")
    expect(page.locator("#load")).to_have_text("Load")
    expect(page.locator("#load")).to_be_enabled()
    expect(message_box(page)).to_have_value("a draft")
    expect(page.get_by_role("alert")).to_have_count(0)
    folder = starter_page.home / "converted"
    assert not [path for path in folder.glob("large*") if path.suffix in {".gguf", ".part"}]


def test_the_time_left_is_told_in_both_languages(
    planned_page: Served, open_page: OpenPage, shoot: Shoot
) -> None:
    page = open_page(planned_page)
    load_planned(page, "llava-slow-conversion")
    expect(page.locator("#setup-note")).to_contain_text(re.compile(r"\d+ % - about [\d.]+ m?s left"))
    page.get_by_text("中", exact=True).click()
    expect(page.locator("#load")).to_have_text("已加载")
    page.get_by_text("EN", exact=True).click()
    wait_until_ready(page)


def test_a_conversion_that_stands_still_can_be_stopped(planned_page: Served, open_page: OpenPage) -> None:
    page = open_page(planned_page)
    message_box(page).fill("a draft")
    load_planned(page, "llava-stuck-conversion")
    bar = page.get_by_role("progressbar", name="Converting once for llama.cpp")
    expect(bar).to_have_attribute("aria-valuenow", "50")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#status")).to_contain_text("No model loaded")
    expect(page.locator("#load")).to_have_text("Load")
    expect(message_box(page)).to_have_value("a draft")


def test_what_cant_be_converted_runs_with_transformers_at_a_press(
    planned_page: Served, open_page: OpenPage
) -> None:
    page = open_page(planned_page)
    load_planned(page, "llava-unfit-conversion")
    card = page.get_by_role("alert")
    expect(card).to_contain_text("its tokenizer is of a kind that can't be written")
    expect(card).to_contain_text("nothing is converted")
    page.get_by_role("button", name="Use transformers instead").click()
    wait_until_ready(page)
    expect(card).to_have_count(0)
    expect(page.locator("#plan .sn-headline")).to_contain_text("transformers ·")
    expect(page.locator("#load")).to_have_text("Loaded")
    open_fold(page, "custom")
    expect(page.locator("#custom-intro")).to_contain_text("Engine: transformers")
    page.get_by_role("button", name="Reset to automatic").click()
    expect(page.locator("#plan .sn-headline")).to_contain_text("llama.cpp ·")


def test_a_full_disk_says_what_can_go(planned_page: Served, open_page: OpenPage) -> None:
    folder = planned_page.home / "converted"
    folder.mkdir(exist_ok=True)
    old = folder / f"old-{'0' * 20}-q8_0.gguf"
    old.write_bytes(bytes(3 << 20))
    page = open_page(planned_page)
    load_planned(page, "llava-full-disk-conversion")
    card = page.get_by_role("alert")
    expect(card).to_contain_text("The disk is full.")
    expect(card).to_contain_text("Models that were converted before take 3.0 MB")
    page.get_by_role("button", name="Clear converted files").click()
    # It is tried again; the disk of this engine stays full, and nothing else could go.
    expect(page.get_by_role("button", name="Use transformers instead")).to_be_visible()
    assert not old.exists()
    expect(card).to_contain_text("The disk is full.")
