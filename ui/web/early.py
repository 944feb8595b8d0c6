"""Puts our markup into the page's own <head>, before the first script of Gradio.

Gradio's `head` argument is added by its script, after that has chosen a language by the browser's and
after the first paint: too late for a script that decides the language, and for the style.
"""

from __future__ import annotations

from typing import Any

_OPENING = b"<head>"


class EarlyHead:
    """Wraps an ASGI app; adds `markup` to the HTML document at `/`, and touches nothing else."""

    def __init__(self, app: Any, markup: str) -> None:  # noqa: ANN401 - any ASGI app
        self._app = app
        self._markup = markup.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own shapes
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        # The document must come as it is, not compressed, to be added to.
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        start: Any = None
        body = bytearray()

        async def collect(message: Any) -> None:  # noqa: ANN401
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                await self._deliver(start, bytes(body), send)

        await self._app({**scope, "headers": plain}, receive, collect)

    async def _deliver(self, start: Any, body: bytes, send: Any) -> None:  # noqa: ANN401
        content = body.replace(_OPENING, _OPENING + self._markup, 1)
        headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(content)).encode()))
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": content})
