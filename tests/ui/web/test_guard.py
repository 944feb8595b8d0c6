"""Who may talk to the page, and what exists there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ui.web.guard import Guard

HOST = {b"host": b"127.0.0.1:7860"}


async def _inner(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-inner", b"1")]})
    await send({"type": "http.response.body", "body": b"inside"})


def request(path: str, headers: dict[bytes, bytes]) -> tuple[int, dict[bytes, bytes]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": list(headers.items())}
    asyncio.run(Guard(_inner, 7860)(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize("host", [b"127.0.0.1:7860", b"localhost:7860", b"LOCALHOST:7860", b"[::1]:7860"])
def test_this_machine_gets_in(host: bytes) -> None:
    assert request("/", {b"host": host})[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {b"host": b"evil.example:7860"},
        {b"host": b"127.0.0.1.evil.example:7860"},
        {b"host": b"127.0.0.1:9999"},
        {b"host": b"127.0.0.1"},
        {},
        HOST | {b"origin": b"http://evil.example"},
        HOST | {b"origin": b"https://127.0.0.1:7860"},
        HOST | {b"origin": b"http://127.0.0.1:8000"},
        HOST | {b"origin": b"null"},
        HOST | {b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"no-cors"},
    ],
    ids=[
        "a name rebound to this machine",
        "a name that begins like ours",
        "another port",
        "no port",
        "no host",
        "a foreign page",
        "our host by another scheme",
        "another local server's page",
        "a sandboxed page",
        "a picture embedded elsewhere",
    ],
)
def test_strangers_stay_outside(headers: dict[bytes, bytes]) -> None:
    assert request("/gradio_api/queue/join", headers)[0] == 403


def test_a_link_from_elsewhere_may_open_the_page() -> None:
    assert request("/", HOST | {b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"navigate"})[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/docs", "/openapi.json", "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/proxy=http://a/b",
     "/monitoring", "/gradio_api/vibe-edit", "/gradio_api/mcp", "/gradio_api/runs", "/login"],
)  # fmt: skip
def test_routes_without_a_use_do_not_exist(path: str) -> None:
    assert request(path, HOST)[0] == 404


def test_the_browser_is_told_to_load_nothing_from_elsewhere() -> None:
    status, headers = request("/", HOST)
    assert (status, headers[b"x-inner"]) == (200, b"1")
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_web_sockets_are_not_served() -> None:
    called: list[str] = []

    async def inner(_scope: Any, _receive: Any, _send: Any) -> None:
        called.append("inner")

    asyncio.run(Guard(inner, 7860)({"type": "websocket", "path": "/", "headers": []}, None, None))
    assert called == []
