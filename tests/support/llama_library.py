"""What llama.cpp makes of a GGUF file, in a process of its own: `python llama_library.py < job > result`.

A job is a JSON object: `model`, `socket` (a free path), `prompts`, `texts` to split into tokens, and
`tokens`, how many to answer with; `mmproj` and `pictures` to ask about. The result has `answers` (lists of
ids), `ids` (of each text) and `pictures` (texts).
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def ask_library(
    model: Path,
    folder: Path,
    *,
    prompts: Sequence[str] = (),
    texts: Sequence[str] = (),
    pictures: Sequence[tuple[str, Path, str]] = (),
    mmproj: Path | None = None,
    tokens: int = 24,
) -> dict[str, Any]:
    """Run a job; `folder` takes the socket. `pictures` are text, a PNG file, and the text behind it."""
    job: dict[str, Any] = {
        "model": str(model),
        "socket": str(folder / "s.sock"),
        "prompts": list(prompts),
        "texts": list(texts),
        "pictures": [(before, str(path), after) for before, path, after in pictures],
        "mmproj": None if mmproj is None else str(mmproj),
        "tokens": tokens,
    }
    # The library does not start where an earlier one left its socket.
    Path(job["socket"]).unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# A template that writes what it is given, with pictures in their places.
_AS_IT_IS = (
    "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endif %}{% endfor %}"
)


class _Local(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("local")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _post(path: str, where: str, body: dict[str, Any]) -> dict[str, Any]:
    line = _Local(path)
    line.request("POST", where, json.dumps(body), {"Content-Type": "application/json"})
    answer: dict[str, Any] = json.loads(line.getresponse().read())
    line.close()
    return answer


def _serve(job: dict[str, Any]) -> dict[str, Any]:
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = job["model"]
    settings.n_ctx, settings.n_parallel, settings.warmup, settings.verbosity = 512, 1, False, 1
    settings.fit_params = False
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 2
    # The caches' exact form, for answers that don't depend on a rounding.
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    settings.hostnames, settings.chat_template, settings.use_jinja = [job["socket"]], _AS_IT_IS, True
    if job["mmproj"]:
        settings.mmproj.path = job["mmproj"]
    server = xllamacpp.Server(settings)
    greedy = {"n_predict": job["tokens"], "temperature": 0, "return_tokens": True}
    found = {
        "answers": [
            _post(job["socket"], "/completion", {"prompt": prompt, **greedy}) for prompt in job["prompts"]
        ],
        "ids": [
            _post(job["socket"], "/tokenize", {"content": text, "add_special": True, "parse_special": True})
            for text in job["texts"]
        ],
    }
    seen = [_look(server, job, *asked) for asked in job["pictures"]]
    del server
    return {
        "answers": [answer["tokens"] for answer in found["answers"]],
        "ids": [answer["tokens"] for answer in found["ids"]],
        "pictures": seen,
    }


def _look(server: Any, job: dict[str, Any], before: str, path: str, after: str) -> str:
    picture = "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()
    parts = [
        {"type": "text", "text": before},
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "text", "text": after},
    ]
    answer = server.handle_chat_completions(
        {
            "messages": [{"role": "user", "content": parts}],
            "n_predict": job["tokens"],
            "temperature": 0,
            "reasoning_format": "none",
        }
    )
    assert "choices" in answer, answer
    return str(answer["choices"][0]["message"]["content"])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_serve(json.load(sys.stdin))))
