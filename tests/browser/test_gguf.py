"""GGUF files, opened by their paths on the real page: alone, in folders, in parts, with and without eyes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import add_pictures, ask, choose, open_fold, wait_for_answer, wait_until_ready
from tests.browser.test_converting import name_model
from tests.support import gguf_files, tiny_gguf

WITHOUT_EYES = "No mmproj file that fits it lies beside the file"


@pytest.fixture
def page(starter_page: Served, open_page: OpenPage) -> Page:
    opened = open_page(starter_page)
    expect(opened.locator("#load")).to_be_visible()
    return opened


def load_named(page: Page, path: Path) -> None:
    """Type the path, see its plan and load it."""
    name_model(page, path)
    expect(page.locator("#plan .sn-headline")).to_contain_text("llama.cpp ·")
    expect(page.locator("#load")).to_be_enabled()
    page.locator("#load").click()
    expect(page.locator("#status")).to_contain_text(re.compile(r"Ready · llama\.cpp \w+ · CPU"))
    expect(page.locator("#load")).to_have_text("Loaded")


def test_a_file_with_its_mmproj_beside_it_sees(page: Page, tmp_path: Path, picture: Path) -> None:
    path = tiny_gguf.write_text(tmp_path / "看 file" / "tiny.gguf")
    tiny_gguf.write_eyes(path.with_name("tiny-mmproj.gguf"))
    load_named(page, path)
    expect(page.locator("#plan")).not_to_contain_text(WITHOUT_EYES)
    ask(page, "What is it?", picture)
    expect(wait_for_answer(page, 1).locator(".sn-stats")).to_contain_text("16 image tokens")

    # What can't be chosen of a file says so.
    open_fold(page, "custom")
    for control in ("engine", "precision"):
        expect(page.locator(f"#{control}")).to_contain_text("GGUF")
        expect(page.locator(f"#{control} input")).to_be_disabled()
    for control in ("offload", "map-box"):
        expect(page.locator(f"#{control}")).to_be_hidden()


def test_a_folder_without_one_reads_text_and_says_what_it_lacks(
    page: Page, tmp_path: Path, picture: Path
) -> None:
    add_pictures(page, picture)
    path = tiny_gguf.write_text(tmp_path / "folder" / "tiny.gguf", template=tiny_gguf.TEXT_CHATML)
    load_named(page, path.parent)
    expect(page.locator("#plan")).to_contain_text(WITHOUT_EYES)
    expect(page.locator("#reading")).to_contain_text("The pictures in your draft wait")
    expect(page.locator("#message img")).to_be_hidden()
    ask(page, "Hello?")
    wait_for_answer(page, 1)

    # Put there, it is found, and the model that is loaded has to be loaded again.
    tiny_gguf.write_eyes(path.with_name("mmproj-tiny.gguf"))
    expect(page.locator("#plan")).not_to_contain_text(WITHOUT_EYES)
    expect(page.locator("#reading")).to_be_visible()


def test_a_split_set_by_any_of_its_parts(page: Page, tmp_path: Path) -> None:
    whole = tiny_gguf.write_text(tmp_path / "whole" / "tiny.gguf", template=tiny_gguf.TEXT_CHATML)
    first, second = tiny_gguf.split(whole, tmp_path / "parts")
    load_named(page, second)
    ask(page, "Hello?")
    wait_for_answer(page, 1)
    first.unlink()
    name_model(page, second)
    expect(page.locator("#plan")).to_contain_text("parts of the model are missing")
    expect(page.locator("#load")).to_be_disabled()


def test_a_folder_of_several_has_each_in_the_list(
    page: Page, starter_page: Served, open_page: OpenPage, tmp_path: Path
) -> None:
    several = starter_page.home / "models" / "several"
    for name in ("one", "two"):
        tiny_gguf.write_text(several / f"{name}.gguf", template=tiny_gguf.TEXT_CHATML)
    name_model(page, several)
    expect(page.locator("#plan")).to_contain_text("The folder holds 2 GGUF models (one, two)")
    again = open_page(starter_page)  # models are looked for when the page opens
    choose(again, "Model", "several/two")
    expect(again.locator("#plan .sn-headline")).to_contain_text("llama.cpp ·")
    shutil.rmtree(several)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("truncated", "is damaged"),
        ("no GGUF", "is damaged"),
        ("an architecture that nobody knows", "Snug can't run the model"),
    ],
)
def test_what_cant_be_run_is_said_before_it_is_loaded(
    page: Page, tmp_path: Path, harm: str, says: str
) -> None:
    path = tmp_path / "model.gguf"
    match harm:
        case "truncated":
            whole = tiny_gguf.write_text(path).read_bytes()
            path.write_bytes(whole[: len(whole) * 2 // 3])
        case "no GGUF":
            path.write_bytes(b"hello" * 100)
        case _:
            gguf_files.tiny(path, "something-new")
    name_model(page, path)
    expect(page.locator("#plan").get_by_role("alert")).to_contain_text(says)
    expect(page.locator("#load")).to_be_disabled()


def test_an_mmproj_of_another_model_is_named_and_can_be_moved_away(page: Page, tmp_path: Path) -> None:
    path = tiny_gguf.write_text(tmp_path / "model" / "tiny.gguf", template=tiny_gguf.TEXT_CHATML)
    other = path.with_name("mmproj-other.gguf")
    tiny_gguf.write_eyes(other, width=2 * tiny_gguf.HIDDEN)
    name_model(page, path)
    card = page.locator("#plan").get_by_role("alert")
    expect(card).to_contain_text("mmproj-other.gguf was made for a language model of width 128")
    expect(card).to_contain_text("or move mmproj-other.gguf elsewhere")
    other.unlink()
    expect(page.locator("#plan")).to_contain_text(WITHOUT_EYES)
    load_named(page, path)
    choose(page, "Model", "Starter")
    page.locator("#load").click()
    wait_until_ready(page)
