"""The served page from outside: who is answered, what is served, how it ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from tests.support.programs import Program

ROOT = Path(__file__).resolve().parents[3]


def start(home: Path) -> tuple[Program, int, list[str]]:
    """A page that answers, its port, and the lines it writes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "tests.support.fake_page", str(port), str(home)]
    flags = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
    child = Program(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, creationflags=flags)
    lines: list[str] = []
    said = threading.Event()

    def take(line: str) -> None:
        lines.append(line)
        said.set()

    child.read_lines(take, at_end=said.set)
    if not said.wait(120) or f"http://127.0.0.1:{port}" not in "".join(lines):
        child.finish()
        raise AssertionError("".join(lines))
    return child, port, lines


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Process, int]]:
    child, port, _ = start(tmp_path_factory.mktemp("home"))
    yield psutil.Process(child.pid), port
    child.finish()


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    status, body = answer.status, answer.read()
    connection.close()
    return status, body


def test_only_this_machine_is_listened_to(page: tuple[psutil.Process, int]) -> None:
    process, port = page
    listening = [one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", port)]


def test_the_page_names_nobody_else(page: tuple[psutil.Process, int]) -> None:
    status, body = get(page[1], "/")
    assert status == 200
    text = body.decode("utf-8")
    # What Gradio's template has for link previews is never fetched; scripts, styles and fonts would be.
    for fetched in ("src=", "href=", "@import", "url("):
        for piece in text.split(fetched)[1:]:
            assert not piece.lstrip("\"'").startswith(("http:", "https:", "//")), piece[:80]


def test_fonts_are_the_systems(page: tuple[psutil.Process, int]) -> None:
    status, body = get(page[1], "/theme.css")
    assert status == 200
    assert b"@font-face" not in body
    assert not re.search(rb"(@import|url\()\s*['\"]?(https?:)?//", body)


def test_a_rebound_name_is_refused(page: tuple[psutil.Process, int]) -> None:
    assert get(page[1], "/", Host=f"rebound.example:{page[1]}")[0] == 403


def test_another_sites_page_is_refused(page: tuple[psutil.Process, int]) -> None:
    assert get(page[1], "/config", Origin="http://evil.example")[0] == 403


@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", "/gradio_api/info", "/monitoring", "/gradio_api/mcp/"]
)
def test_no_documentation_or_tools_are_served(page: tuple[psutil.Process, int], path: str) -> None:
    assert get(page[1], path)[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        ROOT / "pyproject.toml",
        ROOT / "assets" / "examples" / ".." / "starter" / "config.json",
        Path(__file__),
    ],
    ids=["the project's file", "up from the examples", "a test"],
)
def test_only_our_own_pictures_are_served(page: tuple[psutil.Process, int], path: Path) -> None:
    example = ROOT / "assets" / "examples" / "circles.png"
    assert get(page[1], "/gradio_api/file=" + quote(str(example)))[0] == 200
    assert get(page[1], "/gradio_api/file=" + quote(str(path)))[0] in (403, 404)


def test_another_address_is_not_fetched(page: tuple[psutil.Process, int]) -> None:
    status, _ = get(page[1], "/gradio_api/file=http://127.0.0.1:1/picture.png")
    assert status in (302, 403, 404)


def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path) -> None:
    child, port, lines = start(tmp_path)
    assert get(port, "/")[0] == 200
    os.kill(child.pid, signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGINT)
    assert child.wait(60) != 0
    child.finish()
    assert "Error" not in "".join(lines)
    with pytest.raises(ConnectionError):
        get(port, "/")
