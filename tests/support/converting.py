"""A conversion in a process of its own, and a checkpoint large enough that one takes a while."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from threading import Event as Flag

import psutil

from backends.conversion.convert import convert
from backends.conversion.types import Request, WeightType

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, cache: Path, kind: WeightType = WeightType.Q8_0) -> subprocess.Popen[str]:
    """Convert in another process, which prints what became of it as JSON."""
    command = [sys.executable, "-m", "tests.support.converting", str(folder), str(cache), kind.value]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def write_large(folder: Path, tokenizer: Path, *, layers: int = 2, words: int = 64_000) -> Path:
    """A Llama of zeros in bf16 whose file has holes in the place of weights: it takes no disk.

    With 64,000 words, its largest tensor has 131 million numbers: 0.5 GB at 32 bits.
    """
    hidden, inner = 2048, 8192
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(layers):
        base = f"model.layers.{layer}."
        shapes |= {f"{base}self_attn.{part}_proj.weight": (hidden, hidden) for part in "qkvo"}
        shapes |= {f"{base}mlp.{part}_proj.weight": (inner, hidden) for part in ("gate", "up")}
        shapes[f"{base}mlp.down_proj.weight"] = (hidden, inner)
        shapes |= {f"{base}{part}_layernorm.weight": (hidden,) for part in ("input", "post_attention")}
    header: dict[str, object] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "vocab_size": words,
        "tie_word_embeddings": True,
        "eos_token_id": 3,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tokenizer / name).read_bytes())
    return folder


def _peak() -> int:
    """The most memory that this process held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What the system tells of a child's resources counts what its parent held when it began.
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    about = psutil.Process().memory_info()
    return int(getattr(about, "peak_wset", about.rss))


def _main() -> None:
    folder, cache, kind = sys.argv[1:]
    calls: list[int] = []
    request = Request(Path(folder), Path(cache), kind=WeightType(kind))
    made = convert(request, lambda done, _: calls.append(done), Flag())
    written = {
        "text": str(made.text),
        "peak": _peak(),
        "calls": len(calls),
        "torch": "torch" in sys.modules,
    }
    sys.stdout.write(json.dumps(written))


if __name__ == "__main__":
    _main()
