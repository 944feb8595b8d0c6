"""ASGI guard in front of everything: only this machine's own pages may talk to Snug.

Against DNS rebinding the Host header must name this machine, against other sites' pages the Origin must
be ours; only the routes that the page uses exist; and the browser is told to load nothing from elsewhere.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_EXACT = frozenset({
    "/", "/config", "/config/", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/pwa_icon",
    "/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/queue/join", "/gradio_api/queue/data",
    "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/reset/", "/gradio_api/startup-events",
    "/gradio_api/theme.css", "/gradio_api/app_id", "/gradio_api/app_id/", "/gradio_api/run/predict",
    "/gradio_api/api/predict",
})  # fmt: skip
_PREFIXES = ("/static/", "/assets/", "/gradio_api/file=", "/gradio_api/heartbeat/", "/svelte/")
# Inline script and style are Gradio's own; it compiles templates, hence unsafe-eval.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; frame-src 'none'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """Wraps an ASGI app served on `port`: 403 to strangers, 404 on routes that the page has no use for."""

    def __init__(self, app: Any, port: int) -> None:  # noqa: ANN401 - any ASGI app
        self._app = app
        # A browser leaves out the port that is the scheme's own.
        bare = frozenset(_LOOPBACK) if port == 80 else frozenset()
        self._hosts = bare | frozenset(f"{name}:{port}" for name in _LOOPBACK)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own shapes
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refusal = self.refusal(scope["path"], dict(scope["headers"]))
        if refusal is not None:
            await _refuse(send, *refusal)
            return

        async def send_guarded(message: Any) -> None:  # noqa: ANN401
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        await self._app(scope, receive, send_guarded)

    def refusal(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and reason when a request is to be refused."""
        if headers.get(b"host", b"").decode("latin-1").lower() not in self._hosts:
            return 403, "This address is not Snug's."
        origin = headers.get(b"origin")
        if origin is not None and not self._ours(origin.decode("latin-1")):
            return 403, "Another site's page may not talk to Snug."
        foreign = headers.get(b"sec-fetch-site", b"same-origin") == b"cross-site"
        if foreign and headers.get(b"sec-fetch-mode") != b"navigate":
            return 403, "Another site's page may not talk to Snug."
        if path not in _EXACT and not path.startswith(_PREFIXES):
            return 404, "Nothing here."
        return None

    def _ours(self, origin: str) -> bool:
        parts = urlsplit(origin.lower())
        return parts.scheme == "http" and parts.netloc in self._hosts


async def _refuse(send: Any, status: int, reason: str) -> None:  # noqa: ANN401
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
