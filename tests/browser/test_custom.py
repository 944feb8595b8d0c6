"""Settings by hand in a real browser: the plan follows, mistakes are said, nothing is lost."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import choose, open_fold
from tests.browser.test_looks import probe

Shoot = Callable[[Page, str], None]


@pytest.fixture
def page(planned_page: Served, open_page: OpenPage) -> Page:
    """LLaVA-1.5-7B on two 12 GB cards, with the fold open."""
    opened = open_page(planned_page)
    choose(opened, "Model", "llava-1.5-7b")
    expect(opened.locator("#plan")).to_contain_text("32 layers on GPU")
    open_fold(opened, "custom")
    return opened


def slide(page: Page, slider: str, share: float) -> None:
    """Drag a slider's thumb, and keep holding it."""
    track = page.locator(f"#{slider} input[type=range]")
    track.scroll_into_view_if_needed()
    box = track.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 8, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * share, y, steps=4)


def test_the_bars_follow_the_slider_while_it_is_held(page: Page, shoot: Shoot) -> None:
    slide(page, "gpu-layers", 0.5)
    expect(page.locator("#plan .sn-headline")).to_contain_text("off it")
    expect(page.locator("#plan .sn-headline")).to_be_in_viewport()
    held = page.locator("#gpu-layers input[type=range]").input_value()
    expect(page.locator("#plan .sn-headline")).to_contain_text(f"{held} layers on GPU")
    page.mouse.up()
    shoot(page, "custom")
    expect(page.locator("#command textarea")).to_have_value(re.compile(f"--set gpu_layers={held}$"))
    expect(page.locator("#custom-intro")).to_contain_text(f"Layers on the GPU: {held}")
    page.get_by_role("button", name="Layers on the GPU").click()
    expect(page.locator("#plan .sn-headline")).to_contain_text("32 layers on GPU")
    expect(page.locator("#gpu-layers input[type=range]")).to_have_value("32")


def test_a_value_that_cannot_be_is_said_in_the_card_and_stays_to_be_corrected(page: Page) -> None:
    context = page.get_by_role("spinbutton", name="Context (tokens)")
    context.fill("999999")
    expect(page.locator("#plan")).to_contain_text("made for at most 4,096 tokens")
    expect(page.locator("#load")).to_be_disabled()
    expect(context).to_have_value("999999")
    context.fill("1024")
    expect(page.locator("#plan .sn-meter").first).to_be_visible()
    expect(page.locator("#load")).to_be_enabled()


def test_a_map_is_checked_while_it_is_written_used_and_given_up(page: Page) -> None:
    open_fold(page, "map-box")
    text = page.get_by_label("Device map")
    expect(text).to_have_value(re.compile(r"model.language_model.layers.0-\d+ = cuda:0"))
    text.fill("model.langage_model = cuda:0")
    expect(page.locator("#map-check")).to_contain_text("The nearest names are model.language_model")
    expect(page.get_by_role("button", name="Use this map")).to_be_disabled()
    text.fill("* = cuda:0\nmodel.language_model.layers.10-31 = cuda:1")
    expect(page.locator("#map-check")).to_contain_text("fits")
    page.get_by_role("button", name="Use this map").click()
    expect(page.locator("#custom-intro")).to_contain_text("Device map")
    expect(page.locator("#gpu-layers input[type=range]")).to_be_disabled()
    expect(page.locator("#map-json textarea")).to_have_value(re.compile("cuda:1"))
    page.get_by_role("button", name="Back to automatic", exact=True).click()
    expect(page.locator("#custom-intro")).to_contain_text("Everything is chosen for you")


def test_presets_and_models_keep_what_makes_sense_and_say_what_does_not(page: Page) -> None:
    page.get_by_role("checkbox", name="0 · RTX 3060").click()
    expect(page.locator("#custom-intro")).to_contain_text("GPUs to use: 1")
    page.get_by_role("spinbutton", name="Context (tokens)").fill("3000")
    expect(page.locator("#custom-intro")).to_contain_text("3,000")
    choose(page, "Preset", "CPU only")
    expect(page.locator("#plan")).to_contain_text("GPUs to use: back to automatic")
    expect(page.locator("#custom-intro")).to_contain_text("3,000")
    # What CPU only would not mean makes it Custom.
    page.get_by_role("checkbox", name="0 · RTX 3060").click()
    expect(page.get_by_role("combobox", name="Preset")).to_have_value("Custom")
    choose(page, "Model", "text-6b")
    expect(page.locator("#command textarea")).to_have_value(re.compile("text-6b.*context=3000"))
    expect(page.get_by_role("spinbutton", name="Pictures per chat")).to_be_hidden()
    page.get_by_role("button", name="Reset to automatic").click()
    expect(page.locator("#custom-intro")).to_contain_text("Everything is chosen for you")


def test_choices_outlive_a_reload_and_a_new_tab_each_tab_with_its_own(page: Page) -> None:
    choose(page, "Preset", "Low VRAM")
    page.get_by_role("spinbutton", name="Context (tokens)").fill("3000")
    expect(page.locator("#custom-intro")).to_contain_text("3,000")
    page.wait_for_function("(localStorage.getItem('snug-chosen') ?? '').includes('context=3000')")

    def opened_with(tab: Page, preset: str, context: str) -> None:
        expect(tab.locator("#plan .sn-meter").first).to_be_visible()
        expect(tab.get_by_role("combobox", name="Model")).to_have_value("llava-1.5-7b")
        expect(tab.get_by_role("combobox", name="Preset")).to_have_value(preset)
        expect(tab.get_by_role("button", name="Custom · 1 by hand")).to_be_visible()
        open_fold(tab, "custom")
        expect(tab.locator("#custom-intro")).to_contain_text(f"Context (tokens): {context}")
        expect(tab.locator("#command textarea")).to_have_value(re.compile(context.replace(",", "")))

    page.reload()
    opened_with(page, "Low VRAM", "3,000")
    other = page.context.new_page()
    other.goto(page.url)
    opened_with(other, "Low VRAM", "3,000")
    other.get_by_role("spinbutton", name="Context (tokens)").fill("3500")
    other.wait_for_function("(localStorage.getItem('snug-chosen') ?? '').includes('context=3500')")
    page.reload()
    opened_with(page, "Low VRAM", "3,000")


def test_what_the_browser_gives_back_is_not_trusted(page: Page) -> None:
    for kept in ("{", '{"model": "m", "preset": "auto", "settings": ["device_map=/etc/passwd"]}', "[" * 9999):
        page.evaluate("text => sessionStorage.setItem('snug-chosen', text)", kept)
        page.reload()
        expect(page.locator("#plan .sn-meter").first).to_be_visible()
        expect(page.get_by_role("combobox", name="Preset")).to_have_value("Recommended")
        expect(page.locator("#plan .sn-notice")).to_have_count(0)


def test_each_gpu_has_a_limit_of_its_own(page: Page) -> None:
    open_fold(page, "memory-box")
    slide(page, "gpu-limit", 0.5)
    page.mouse.up()
    expect(page.locator("#custom-intro")).to_contain_text("0 · RTX 3060")
    choose(page, "GPU to limit", "1 · RTX 3060")
    expect(page.locator("#gpu-limit")).to_contain_text("1 · RTX 3060 · automatic")
    slide(page, "gpu-limit", 0.6)
    page.mouse.up()
    expect(page.locator("#command textarea")).to_have_value(
        re.compile(r"--set max_memory.cuda:0=.* --set max_memory.cuda:1=")
    )


def test_picture_detail_says_what_it_takes(page: Page) -> None:
    choose(page, "Model", "qwen2.5-vl-7b")
    expect(page.locator("#detail-cost")).to_contain_text("1,282 tokens")
    slide(page, "detail", 0.2)
    page.mouse.up()
    expect(page.locator("#detail-cost")).not_to_contain_text("1,282 tokens")
    expect(page.locator("#custom-intro")).to_contain_text("Image detail")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_narrow_screen_by_keyboard_and_for_a_screen_reader(
    dark: bool, planned_page: Served, open_page: OpenPage
) -> None:
    page = open_page(planned_page, width=375, dark=dark)
    page.get_by_role("button", name="Setup").click()
    page.locator("#custom > button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#custom-intro")).to_contain_text("Everything is chosen for you")
    for fold in ("memory-box", "map-box", "whatif"):
        open_fold(page, fold)
    layers = page.get_by_role("slider", name="Layers on the GPU")
    layers.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#custom-intro")).to_contain_text("Layers on the GPU")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate(probe("unnamed.js")) == []
    assert page.evaluate(probe("poor_contrast.js")) == []
