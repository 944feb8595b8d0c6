"""The library's server, within this process and closed to all others.

xllamacpp offers llama.cpp's HTTP server only. It always listens: here on a socket file in a folder that only
we may enter, which is removed as soon as the model is loaded, and with a key that nobody is told. Windows has
no such sockets in the library, so there it is the loopback address with that key. Questions never go that
way: they are method calls.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.engines.llamacpp.capture import captured
from backends.engines.llamacpp.errors import why_not_loaded
from backends.engines.llamacpp.gpus import GpuShare

# Writes the texts and the pictures of one message as they are; our own prompt is whole already.
_AS_IT_IS = (
    "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endif %}{% endfor %}"
)
_KNOCK = {
    "messages": [{"role": "user", "content": "."}],
    "n_predict": 0,
    "stream": True,
    "return_progress": True,
}
_ERRORS_ONLY = 1
# Where layers look at a window only, turning back needs copies of what they keep; each takes as much again.
_CHECKPOINTS = 4
_MOST_GPUS = 128
# Longer paths of socket files are refused by the systems: 108 bytes on Linux, 104 on macOS.
_LONGEST_SOCKET = 100


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What the library is told. `rows` are read in one pass; `exact` computes attention in 32 bits.

    `kept_mib` of RAM keep conversations beside the one that was read last. A file that is not `mapped` is
    read into memory of the library's own.
    """

    text: Path
    mmproj: Path | None
    context_tokens: int
    threads: int
    rows: int
    most_picture_tokens: int | None = None
    exact: bool = False
    kept_mib: int = 0
    gpus: GpuShare = field(default_factory=GpuShare)
    mapped: bool = True


class Server:
    """A loaded model."""

    def __init__(self, library: Any, settings: ServerSettings) -> None:
        """Load it. Raises ModelDamaged, ModelUnsupported, OutOfRam or InternalError."""
        folder = Path(tempfile.mkdtemp(prefix="snug-"))
        if len(os.fsencode(folder)) + len("/s.sock") > _LONGEST_SOCKET:
            folder.rmdir()
            folder = Path(tempfile.mkdtemp(prefix="snug-", dir="/tmp"))
        try:
            params = server_params(library, settings, folder / "s.sock")
            with captured() as said:
                try:
                    self._server: Any = library.Server(params)
                except (RuntimeError, ValueError) as error:
                    failure: Exception | None = error
                    said.settle()
                else:
                    failure = None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if failure is not None:
            raise why_not_loaded(said.errors, settings.text, settings.mmproj) from failure
        # The library's loop may not run yet; one that is told to end before it runs never ends.
        self.ask(_KNOCK, lambda _: True)

    def ask(self, body: dict[str, Any], hear: Callable[[dict[str, Any]], bool]) -> None:
        """Carry out a request; returns after its end. `hear` gets what it answers and stops it by True."""
        self._server.handle_chat_completions(body, hear)

    def close(self) -> None:
        """Give the memory back. No request may be under way."""
        self._server = None


def server_params(library: Any, settings: ServerSettings, socket: Path) -> Any:
    """The parameters of a server that listens at `socket` only."""
    params = library.CommonParams()
    params.model.path = str(settings.text)
    if settings.mmproj is not None:
        params.mmproj.path = str(settings.mmproj)
    if settings.most_picture_tokens is not None:
        params.image_max_tokens = settings.most_picture_tokens
    if not settings.mapped:
        params.load_mode = library.llama_load_mode.LLAMA_LOAD_MODE_NONE
    params.n_ctx, params.n_parallel = settings.context_tokens, 1
    params.n_batch = params.n_ubatch = settings.rows
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    params.n_gpu_layers, params.mmproj_use_gpu = settings.gpus.layers, settings.gpus.pictures
    if settings.gpus.split:
        params.tensor_split = [*map(float, settings.gpus.split), *[0.0] * _MOST_GPUS][:_MOST_GPUS]
    params.warmup = params.fit_params = params.ui = params.endpoint_slots = params.ctx_shift = False
    params.offline = params.use_jinja = params.force_pure_content_parser = True
    params.cache_ram_mib, params.n_ctx_checkpoints = settings.kept_mib, _CHECKPOINTS
    params.chat_template = _AS_IT_IS
    params.verbosity, params.n_threads_http = _ERRORS_ONLY, 1
    params.api_keys = [secrets.token_urlsafe(32)]
    if sys.platform != "win32":
        params.hostnames = [str(socket)]
    else:
        params.hostnames, params.port = ["127.0.0.1"], 0
    if settings.exact:
        params.flash_attn_type = library.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = params.cache_type_v = library.ggml_type.GGML_TYPE_F32
    return params
