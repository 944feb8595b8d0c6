"""Each module of browser tests gets a Chromium and a page process of its own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.programs import running

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
PATIENCE_MS = 60_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for a module: Playwright's loop must have ended before other tests run one of their own."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail("CI has no Chromium: the browser tests must run here")
        pytest.skip("no Chromium on this machine")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Served:
    """A running page process."""

    url: str
    home: Path
    process: psutil.Process
    lines: list[str] = field(default_factory=list)

    @property
    def worker_pid(self) -> int:
        """The process of the loaded model."""
        return int((self.home / "worker.pid").read_text(encoding="utf-8"))

    def escapes(self) -> str:
        """Connections that the process tried to make to elsewhere."""
        noted = self.home / "escapes.txt"
        return noted.read_text(encoding="utf-8") if noted.exists() else ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(home: Path, *engine: str, program: str = "served_page") -> Iterator[Served]:
    port = free_port()
    command = [sys.executable, "-m", f"tests.support.{program}", str(port), str(home), *engine]
    with running(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as page:
        served = Served(f"http://127.0.0.1:{port}", home, psutil.Process(page.pid))
        ready = threading.Event()

        def take(line: str) -> None:
            served.lines.append(line)
            if served.url in line:
                ready.set()

        page.read_lines(take, at_end=ready.set)
        assert ready.wait(120), "".join(served.lines)
        assert page.poll() is None, "".join(served.lines)
        yield served
        assert page.end() == [], "".join(served.lines)
    assert served.escapes() == ""
    assert "Traceback" not in "".join(served.lines), "".join(served.lines)


@pytest.fixture(scope="module")
def starter_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page with the bundled model, as a person opens it (in a folder with a space and Chinese)."""
    yield from _serve(tmp_path_factory.mktemp("a home") / "图片")


@pytest.fixture(scope="module")
def fake_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page with the engine that answers by command words, in a real worker process."""
    yield from _serve(tmp_path_factory.mktemp("home"), "fake")


@pytest.fixture
def unmeasured_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same for one test: what other tests measured corrects none of its plans."""
    yield from _serve(tmp_path_factory.mktemp("home"), "fake")


@pytest.fixture(scope="module")
def planned_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page on a pretended machine with two GPUs and models of published shapes."""
    yield from _serve(tmp_path_factory.mktemp("home"), program="planned_page")


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Opens the page in a context of its own; afterwards nothing may have been asked of other hosts."""
    contexts: list[BrowserContext] = []
    strangers: list[str] = []
    complaints: list[str] = []

    def open_it(served: Served, query: str = "", *, width: int = 1280, dark: bool = False) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            locale="en-US",
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write", "camera"],
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: _note_stranger(request.url, strangers))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(served.url + query)
        expect(page.locator("#hardware .sn-meter").first).to_be_attached()
        expect(page.locator("#plan .sn-meter").first).to_be_attached()
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert strangers == []
    assert complaints == []


def _note_stranger(url: str, strangers: list[str]) -> None:
    if not re.match(r"(http://127\.0\.0\.1:\d+/|data:|blob:)", url):
        strangers.append(url)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A red circle and a blue square."""
    drawn = Image.new("RGB", (320, 240), "#eef2ff")
    draw = ImageDraw.Draw(drawn)
    draw.ellipse((40, 60, 120, 140), fill="#d33")
    draw.rectangle((180, 80, 270, 170), fill="#24c")
    path = tmp_path / "circle 和 square.png"
    drawn.save(path)
    return path


@pytest.fixture
def shoot() -> Callable[[Page, str], None]:
    """Writes assets/screenshots/NAME.png when SNUG_SCREENSHOTS=1; test runs leave the tree alone."""

    def take(page: Page, name: str) -> None:
        if os.environ.get("SNUG_SCREENSHOTS") != "1":
            return
        folder = ROOT / "assets" / "screenshots"
        folder.mkdir(parents=True, exist_ok=True)
        page.mouse.move(2, 400)
        page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return take
