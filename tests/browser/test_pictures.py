"""Every way a picture comes in, and what happens with those that are not pictures."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import add_pictures, ask, message_box, wait_for_answer, wait_until_ready


def _hand_over(page: Page, picture: Path, event: str, place: str) -> None:
    """Paste or drop a file the way a browser does."""
    encoded = base64.b64encode(picture.read_bytes()).decode()
    page.locator(place).evaluate(
        """(box, [encoded, kind]) => {
            const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "handed.png", { type: "image/png" }));
            const event = kind === "paste"
                ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
                : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
            box.dispatchEvent(event);
        }""",
        [encoded, event],
    )


@pytest.mark.parametrize("place", ["#message textarea", "#hardware"], ids=["into the box", "anywhere"])
@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_comes_by(
    way: str, place: str, fake_page: Served, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    _hand_over(page, picture, way, place)
    expect(page.locator("#message img")).to_have_count(1)
    ask(page, "what is it?")
    expect(wait_for_answer(page, 1)).to_contain_text("I see 1 picture")


def test_a_picture_comes_from_the_camera(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    message_box(page).fill("what do you see?")
    page.get_by_role("button", name="Camera", exact=True).click()
    # A picture can be taken once the camera shows one.
    page.wait_for_function("() => document.querySelector('#camera video')?.videoWidth > 0")
    page.get_by_role("button", name="capture photo").click()
    expect(page.locator("#message img")).to_have_count(1)
    expect(page.locator("#camera-box")).to_be_hidden()
    message_box(page).press("Enter")
    expect(wait_for_answer(page, 1)).to_contain_text("I see 1 picture. You said: what do you see?")


def _not_a_picture(path: Path) -> None:
    path.write_bytes(b"this is text, whatever its name says")


def _cut_short(path: Path) -> None:
    Image.new("RGB", (400, 400), "red").save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:300])


def _huge(path: Path) -> None:
    # 30,000 x 30,000 in one bit a pixel compresses to almost nothing.
    Image.new("1", (30_000, 30_000)).save(path, format="PNG")


@pytest.mark.parametrize(
    ("make", "said"),
    [(_not_a_picture, "can't be read as a picture"), (_cut_short, "can't be read"), (_huge, "is too large")],
    ids=["text named .png", "cut short", "900 megapixels"],
)
def test_a_bad_picture_is_named_and_the_draft_stays(
    make: object, said: str, fake_page: Served, open_page: OpenPage, picture: Path
) -> None:
    bad = picture.with_name("bad.png")
    assert callable(make)
    make(bad)
    page = open_page(fake_page)
    wait_until_ready(page)
    add_pictures(page, picture)
    message_box(page).fill("a question that must stay")
    page.locator("#message input[type=file]").first.set_input_files(str(bad))
    expect(page.get_by_role("alert")).to_contain_text("bad.png")
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.locator("#message img")).to_have_count(1)
    expect(message_box(page)).to_have_value("a question that must stay")
    message_box(page).press("Enter")
    expect(wait_for_answer(page, 1)).to_contain_text("I see 1 picture. You said: a question that must stay")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_file_of_another_kind_is_named(fake_page: Served, open_page: OpenPage, tmp_path: Path) -> None:
    document = tmp_path / "notes.pdf"
    document.write_bytes(b"%PDF-1.4")
    page = open_page(fake_page)
    wait_until_ready(page)
    page.locator("#message input[type=file]").first.set_input_files(str(document))
    expect(page.get_by_role("alert").first).to_contain_text("notes.pdf can't be read as a picture")
    ask(page, "go on")
    expect(wait_for_answer(page, 1)).to_contain_text("I see 0 pictures. You said: go on")


def _palette(path: Path) -> None:
    frames = [Image.new("P", (40, 40), color) for color in (1, 2)]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])


def _deep(path: Path) -> None:
    Image.new("I;16", (40, 40), 30_000).save(path, format="PNG")


def _print(path: Path) -> None:
    Image.new("CMYK", (40, 40), (0, 200, 200, 0)).save(path, format="JPEG")


def _see_through(path: Path) -> None:
    Image.new("RGBA", (40, 40), (255, 0, 0, 90)).save(path, format="PNG")


@pytest.mark.parametrize(
    ("name", "make"),
    [("moving.gif", _palette), ("deep.png", _deep), ("print.jpg", _print), ("see-through.png", _see_through)],
)
def test_an_unusual_picture_is_read(
    name: str, make: object, fake_page: Served, open_page: OpenPage, tmp_path: Path
) -> None:
    assert callable(make)
    make(tmp_path / name)
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "what is it?", tmp_path / name)
    expect(wait_for_answer(page, 1)).to_contain_text("I see 1 picture")
    expect(page.get_by_role("alert")).to_be_hidden()
