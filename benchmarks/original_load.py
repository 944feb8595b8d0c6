"""What the layout of its authors costs: the same 2 GB of LLaVA weights as they publish it, and natively.

A checkpoint of random weights is written three times: natively, and in LLaVA's own layout in .safetensors and
in .bin files, with the vision tower beside it. Each load has a process of its own, whose memory is read
off; rounds alternate, with the files in the page cache. In bf16 weights are used as the files have them, in
fp32 every one is read and converted. The quoted ratio is the median of the rounds'.

    python -m benchmarks.original_load FOLDER [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from typing import Any

from benchmarks.child_memory import held, reset_peak
from benchmarks.models import TWO_GB, checkpoint
from benchmarks.report import Row, publish

SLOWER, SHARDS = 1.15, 1.2
LAYOUTS = ("native", "original, .safetensors", "original, .bin")
FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"
WORDS = FIXTURES / "llava-v1.5-full" / "checkpoint" / "llava-v1.5-7b-tiny"
_TOWER = "openai/clip-vit-base-patch16-336"
_NAMES = (
    ("model.language_model.", "model."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
)


def written(folder: Path) -> dict[str, Path]:
    """The three checkpoints by their layout, written once."""
    native = checkpoint(TWO_GB, folder)
    found = {"native": folder / "authors" / "native"}
    for layout, kind in zip(LAYOUTS[1:], ("safetensors", "bin"), strict=True):
        found[layout] = folder / "authors" / f"llava-2gb-{kind}"
        if not (found[layout] / "config.json").is_file():
            _write(native, found[layout], kind)
    if not (found["native"] / "config.json").is_file():
        _write_native(native, found["native"], words=found[LAYOUTS[1]])
    return found


def _write_native(native: Path, target: Path, words: Path) -> None:
    """The same weights with the words of `words`: a large tokenizer takes as long as small weights."""
    from transformers import AutoProcessor, LlamaTokenizer

    target.mkdir(parents=True, exist_ok=True)
    for file in native.glob("model*.safetensors*"):
        (target / file.name).symlink_to(file.resolve())
    processor = AutoProcessor.from_pretrained(native, backend="pil")
    image = {"image_token": "<image>"}
    processor.tokenizer = LlamaTokenizer.from_pretrained(words, extra_special_tokens=image)
    processor.save_pretrained(target)
    shutil.copy(native / "config.json", target)


def _write(native: Path, target: Path, kind: str) -> None:
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(native, dtype=torch.bfloat16)
    tensors = model.state_dict()
    tower = {
        f"vision_model.{name.removeprefix('model.vision_tower.')}": tensors.pop(name)
        for name in list(tensors)
        if name.startswith("model.vision_tower.")
    }
    beside = target.parent / _TOWER
    beside.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tower.items()}, beside / "model.safetensors")
    vision = model.config.vision_config.to_dict() | {"architectures": ["CLIPVisionModel"]}
    (beside / "config.json").write_text(json.dumps(vision), encoding="utf-8")
    side = vision["image_size"]
    pictures = {"crop_size": side, "size": side, "image_mean": [0.48145466, 0.4578275, 0.40821073]}
    pictures |= {"image_std": [0.26862954, 0.26130258, 0.27577711], "do_resize": True, "resample": 3}
    pictures |= {"do_center_crop": True, "do_normalize": True, "image_processor_type": "CLIPImageProcessor"}
    (beside / "preprocessor_config.json").write_text(json.dumps(pictures), encoding="utf-8")

    target.mkdir(parents=True, exist_ok=True)
    tensors = {_original(name): tensor for name, tensor in tensors.items()}
    pattern = "model{suffix}.safetensors" if kind == "safetensors" else "pytorch_model{suffix}.bin"
    split = split_torch_state_dict_into_shards(tensors, filename_pattern=pattern, max_shard_size="1GB")
    for file, names in split.filename_to_tensors.items():
        part = {name: tensors[name].contiguous() for name in names}
        if kind == "safetensors":
            save_file(part, target / file)
        else:
            torch.save(part, target / file)
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    name = f"{pattern.format(suffix='')}.index.json"
    (target / name).write_text(json.dumps(index), encoding="utf-8")
    _write_words(target, model.config.text_config.vocab_size)
    text = model.config.text_config.to_dict()
    config: dict[str, Any] = {
        **text,
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "mm_vision_tower": _TOWER,
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": vision["hidden_size"],
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "image_aspect_ratio": "pad",
    }
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _write_words(target: Path, count: int) -> None:
    """A tokenizer of as many words as the model has vectors: a small one and words that nobody writes."""
    from sentencepiece import sentencepiece_model_pb2

    for file in WORDS.glob("*token*"):
        shutil.copy(file, target)
    words = sentencepiece_model_pb2.ModelProto.FromString((target / "tokenizer.model").read_bytes())
    for number in range(len(words.pieces), count):
        words.pieces.add(piece=f"\u2581unused{number}", score=-1000.0 - number)
    words.trainer_spec.vocab_size = count
    (target / "tokenizer.model").write_bytes(words.SerializeToString())


def _original(name: str) -> str:
    for native, original in _NAMES:
        if name.startswith(native):
            return original + name.removeprefix(native)
    return name


def load_once(path: Path, precision: str) -> dict[str, float]:
    """Load in this process: seconds, and the bytes that the peak was above what was held before."""
    from backends.engines.transformers_engine import TransformersEngine, warm_up
    from backends.models.identify import identify
    from tests.support.plans import make_plan

    warm_up()
    plan = replace(make_plan(path, precision=precision), companions=identify(path).companions)
    engine, pid = TransformersEngine(), os.getpid()
    reset_peak(pid)
    before = held(pid)
    begun = time.perf_counter()
    engine.load(plan, lambda _: None, Flag())
    seconds = time.perf_counter() - begun
    after = held(pid)
    assert before is not None
    assert after is not None
    model = engine._loaded.model  # type: ignore[union-attr]  # noqa: SLF001
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    engine.close()
    return {"s": seconds, "peak": after.peak - before.anonymous - before.files, "weights": weights}


def measured(path: Path, precision: str) -> dict[str, float]:
    """`load_once` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.original_load", str(path), "--once", precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(load_once(options.folder, options.once)))
        return
    folders = written(options.folder)
    largest = max(file.stat().st_size for file in folders["original, .bin"].iterdir())
    rows, details = [], {}
    for precision in ("bf16", "fp32"):
        runs: dict[str, list[dict[str, float]]] = {layout: [] for layout in LAYOUTS}
        for round_ in range(options.rounds + 1):
            for layout in LAYOUTS if round_ % 2 else reversed(LAYOUTS):
                run = measured(folders[layout], precision)
                if round_:  # the first round fills the page cache
                    runs[layout].append(run)
        native = [run["s"] for run in runs["native"]]
        rows.append(Row(f"load 2 GB as {precision}, native", f"{statistics.median(native):.2f} s"))
        for layout in LAYOUTS[1:]:
            seconds = [run["s"] for run in runs[layout]]
            ratio = statistics.median(mine / theirs for mine, theirs in zip(seconds, native, strict=True))
            peak = max(run["peak"] for run in runs[layout])
            most = runs[layout][0]["weights"] + SHARDS * largest
            rows += [
                Row(
                    f"{layout}, as {precision}",
                    f"{statistics.median(seconds):.2f} s, ratio {ratio:.2f}",
                    f"<= {SLOWER} x",
                    ratio <= SLOWER,
                ),
                Row(
                    f"{layout}, as {precision}: RAM at the peak beyond that before",
                    f"{peak / 2**20:,.0f} MiB, weights are {runs[layout][0]['weights'] / 2**20:,.0f}",
                    f"<= weights + {SHARDS} x largest file = {most / 2**20:,.0f} MiB",
                    peak <= most,
                ),
            ]
        details[precision] = runs
    publish("original_load", rows, details)


if __name__ == "__main__":
    main()
