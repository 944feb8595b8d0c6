"""What stands in the document's head before Gradio's first script, and what is left alone."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from ui.web.early import EarlyHead

PAGE = b"<!doctype html><html><head><script>gradio()</script></head><body>head: <head></body></html>"


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answers with PAGE in two pieces, compressed for those who accept it, as Gradio does."""
    body = gzip.compress(PAGE) if (b"accept-encoding", b"gzip") in scope["headers"] else PAGE
    length = (b"Content-Length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length, (b"x-kept", b"1")]})
    await send({"type": "http.response.body", "body": body[:20], "more_body": True})
    await send({"type": "http.response.body", "body": body[20:]})


def get(path: str, method: str = "GET") -> tuple[dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"accept-encoding", b"gzip"), (b"host", b"localhost")]
    scope = {"type": "http", "path": path, "method": method, "headers": headers}
    asyncio.run(EarlyHead(app, "<script>ours('图')</script>")(scope, None, send))
    return dict(sent[0]["headers"]), b"".join(one.get("body", b"") for one in sent[1:])


def test_ours_comes_first_and_once() -> None:
    headers, body = get("/")
    assert body == PAGE.replace(b"<head>", "<head><script>ours('图')</script>".encode(), 1)
    assert headers == {b"content-length": str(len(body)).encode(), b"x-kept": b"1"}


@pytest.mark.parametrize(("path", "method"), [("/config", "GET"), ("/assets/index.js", "GET"), ("/", "POST")])
def test_everything_else_passes_as_it_is(path: str, method: str) -> None:
    headers, body = get(path, method)
    assert gzip.decompress(body) == PAGE
    assert headers[b"Content-Length"] == str(len(body)).encode()
