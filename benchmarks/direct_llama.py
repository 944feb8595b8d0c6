"""xllamacpp itself, in the measuring process: what the engine's overhead is held against."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ERRORS_ONLY = 1


class Direct:
    """A GGUF text model with the library's own template, on as many threads as the machine has cores."""

    def __init__(self, text: Path, context_tokens: int, threads: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(text)
        params.n_ctx, params.n_parallel = context_tokens, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_gpu_layers, params.verbosity = 0, _ERRORS_ONLY
        params.warmup = params.fit_params = params.ui = False
        params.cache_ram_mib = 0
        # The library always opens a listener: a socket file that is gone at once keeps everybody out.
        folder = Path(tempfile.mkdtemp(prefix="snug-"))
        try:
            params.hostnames = [str(folder / "s.sock")] if os.name != "nt" else ["127.0.0.1"]
            self._server: Any = xllamacpp.Server(params)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server = None

    def tokens_per_s(self, prompt: str, tokens: int) -> float:
        """Of a greedy answer, by the library's own clock."""
        body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True}
        answer = self._server.handle_completions(body | {"cache_prompt": False})
        return float(answer["timings"]["predicted_per_second"])
