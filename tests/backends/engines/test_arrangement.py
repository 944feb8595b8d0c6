"""Tensors change places and the model says the same: to the disk, to a second device, and back on failure."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from backends.engines import arrangement as arrangement_module
from backends.engines.arrangement import Arrangement
from backends.engines.offload import OffloadFolder
from backends.engines.placing import NoRoom, Unit, units
from backends.engines.reading import Extent, Reader
from backends.engines.runner import Interrupted, stoppable
from backends.errors import Cancelled, DiskFull
from backends.messages import Progress
from backends.placement.moving import Stuck
from backends.placement.types import CpuLayersMode
from tests.support.second_device import FAR, second_device
from tests.support.tiny_models import text_config

PARTS = ("rotary_emb", "embed_tokens", "layers.0", "layers.1", "layers.2", "norm")
NAMES = (*(f"model.{part}" for part in PARTS), "lm_head")
IDS = torch.arange(10, 50)[None]
QUIET: Callable[[Progress], None] = lambda _: None  # noqa: E731


def placed(
    layers: Sequence[str], mode: CpuLayersMode | None = None, *, head: str = "cpu"
) -> tuple[Unit, ...]:
    """`layers` are the places of embedding and of the three layers."""
    first, *rest = layers
    return units(zip(NAMES, (first, first, *rest, head, head), strict=True), mode)


IN_RAM = placed(("cpu", "cpu", "cpu", "cpu"))
ON_DISK = placed(("cpu", "cpu", "disk", "disk"))


def model_of(*, tied: bool = False, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(3)
    return LlamaForCausalLM(text_config(tie_word_embeddings=tied)).to(dtype).eval()


@torch.inference_mode()
def run(model: Any, device: str = "cpu", kv: Any = None) -> tuple[torch.Tensor, Any]:
    output = model(input_ids=IDS.to(device), past_key_values=kv, use_cache=True)
    return output.logits.to("cpu"), output.past_key_values


def plenty(_: str) -> int:
    return 1 << 40


def places(model: Any) -> list[str]:
    return [str(model.get_parameter(f"model.layers.{i}.mlp.up_proj.weight").device) for i in range(3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_weights_go_to_the_disk_and_back_without_a_changed_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    model = model_of(dtype=dtype)
    expected, _ = run(model)
    arranged, folder, told = Arrangement(model, IN_RAM, None), OffloadFolder(tmp_path), []
    arranged.rearrange(ON_DISK, folder, plenty, told.append, Flag())
    assert places(model) == ["cpu", "meta", "meta"]
    assert len(list(folder.path.iterdir())) == 2
    assert (told[0].done, told[-1].done) == (0, told[-1].total)
    assert torch.equal(run(model)[0], expected)
    assert places(model) == ["cpu", "meta", "meta"]
    arranged.rearrange(placed(("cpu", "disk", "cpu", "disk")), folder, plenty, QUIET, Flag())
    assert places(model) == ["meta", "cpu", "meta"]
    assert len(list(folder.path.iterdir())) == 2
    assert torch.equal(run(model)[0], expected)
    arranged.rearrange(IN_RAM, None, plenty, QUIET, Flag())
    assert places(model) == ["cpu", "cpu", "cpu"]
    assert list(folder.path.iterdir()) == []
    assert torch.equal(run(model)[0], expected)


@pytest.mark.parametrize(
    ("tied", "device", "whole"),
    [
        pytest.param(False, "cpu", set(), id="rows are looked up in the file"),
        pytest.param(True, "cpu", {"lm_head.weight"}, id="a head multiplies with all rows"),
        pytest.param(False, FAR, {"model.embed_tokens.weight"}, id="a GPU sees no file"),
    ],
)
def test_what_a_pass_uses_a_few_rows_of_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, whole: set[str], *, tied: bool
) -> None:
    model = model_of(tied=tied)
    expected, _ = run(model)
    mode: CpuLayersMode = "stream"
    resting = units(
        [(name, "disk" if name.endswith(("embed_tokens", "2")) else device) for name in NAMES], mode
    )
    read: set[str] = set()
    take = Reader.take

    def taken(reader: Reader, wanted: Sequence[Extent], where: str) -> dict[str, torch.Tensor]:
        read.update(extent.name for extent in wanted)
        return take(reader, wanted, where)

    monkeypatch.setattr(Reader, "take", taken)
    with second_device(), torch.no_grad():
        Arrangement(model, units([(name, device) for name in NAMES], mode), None).rearrange(
            resting, OffloadFolder(tmp_path), plenty, QUIET, Flag()
        )
        logits, _ = run(model, device)

    assert {name for name in read if ".layers." not in name} == whole
    assert any("layers.2" in name for name in read)
    assert torch.equal(logits, expected)


@pytest.mark.parametrize(
    ("mode", "runs", "head"),
    [("compute", (FAR, "cpu", "cpu"), "cpu"), ("stream", (FAR, FAR, FAR), FAR)],
)
@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_layers_in_ram_compute_there_or_stream_to_the_gpu(
    mode: CpuLayersMode, runs: tuple[str, ...], head: str, *, tied: bool
) -> None:
    model = model_of(tied=tied)
    expected, kv = run(model)
    again, _ = run(model, kv=kv)
    seen: list[tuple[str, str, str]] = []
    for index, layer in enumerate(model.model.layers):
        layer.self_attn.register_forward_pre_hook(
            lambda module, _, given, index=index: seen.append(
                (
                    str(given["hidden_states"].device),
                    str(given["position_embeddings"][0].device),
                    str(module.q_proj.weight.device),
                )
            ),
            with_kwargs=True,
        )
    with second_device(), torch.no_grad():
        arranged = Arrangement(model, IN_RAM, None)
        hybrid = placed((FAR, FAR, "cpu", "cpu"), mode, head=head)
        arranged.rearrange(hybrid, None, plenty, QUIET, Flag())
        logits, kv = run(model, FAR)
        assert [str(layer.keys.device) for layer in kv.layers] == list(runs)
        assert seen == [(device, device, device) for device in runs]
        assert places(model) == [FAR, "cpu", "cpu"]
        assert torch.equal(logits, expected)
        assert torch.equal(run(model, FAR, kv)[0], again)
        assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
        arranged.rearrange(IN_RAM, None, plenty, QUIET, Flag())
        assert torch.equal(run(model)[0], expected)
    assert not model.model.layers[0]._forward_pre_hooks


def test_the_disk_visits_the_gpu_past_layers_that_compute_on_the_cpu(tmp_path: Path) -> None:
    model = model_of()
    expected, _ = run(model)
    with second_device(), torch.no_grad():
        arranged = Arrangement(model, IN_RAM, None)
        spread = placed((FAR, FAR, "cpu", "disk"), "compute")
        arranged.rearrange(spread, OffloadFolder(tmp_path), plenty, QUIET, Flag())
        logits, kv = run(model, FAR)
    assert [str(layer.keys.device) for layer in kv.layers] == [FAR, "cpu", FAR]
    assert places(model) == [FAR, "cpu", "meta"]
    assert torch.equal(logits, expected)


def test_the_second_device_is_a_hard_one() -> None:
    """Without hooks the same split fails: what these tests see is not the emulation's kindness."""
    model = model_of()
    with second_device(), torch.inference_mode():
        for parameter in model.model.layers[0].parameters(recurse=True):
            assert parameter.device.type == "cpu"
        weight = model.model.layers[0].mlp.up_proj.weight
        model.model.layers[0].mlp.up_proj._parameters["weight"] = torch.nn.Parameter(
            weight.to(FAR), requires_grad=False
        )
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            run(model)


def test_an_interrupted_pass_leaves_visitors_where_they_rest(tmp_path: Path) -> None:
    model = model_of()
    expected, _ = run(model)
    arranged = Arrangement(model, IN_RAM, None)
    arranged.rearrange(ON_DISK, OffloadFolder(tmp_path), plenty, QUIET, Flag())
    handle = model.model.layers[1].mlp.register_forward_pre_hook(_interrupt)
    with pytest.raises(Interrupted):
        run(model)
    handle.remove()
    assert places(model) == ["cpu", "meta", "meta"]
    stop = Flag()
    stop.set()
    with pytest.raises(Interrupted), stoppable(model, stop):
        run(model)
    assert torch.equal(run(model)[0], expected)


def _interrupt(*_: object) -> None:
    raise Interrupted


def _full_at_the_second_file(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = arrangement_module.save_file, []

    def save(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args)

    monkeypatch.setattr(arrangement_module, "save_file", save)


def test_a_disk_that_fills_up_in_between_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    expected, _ = run(model)
    arranged = Arrangement(model, IN_RAM, None)
    _full_at_the_second_file(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        arranged.rearrange(ON_DISK, OffloadFolder(tmp_path), plenty, QUIET, Flag())
    assert places(model) == ["cpu", "cpu", "cpu"]
    assert arranged.placed == IN_RAM
    assert not arranged.broken
    assert torch.equal(run(model)[0], expected)


@pytest.mark.parametrize("back", [False, True], ids=["to the disk", "from the disk"])
def test_a_rearrangement_that_is_cancelled_goes_back(tmp_path: Path, *, back: bool) -> None:
    model = model_of()
    expected, _ = run(model)
    arranged, folder, cancel = Arrangement(model, IN_RAM, None), OffloadFolder(tmp_path), Flag()
    if back:
        arranged.rearrange(ON_DISK, folder, plenty, QUIET, Flag())
    before = places(model)

    def stop(event: Progress) -> None:
        if event.done:
            cancel.set()

    with pytest.raises(Cancelled):
        arranged.rearrange(IN_RAM if back else ON_DISK, folder, plenty, stop, cancel)
    assert places(model) == before
    assert torch.equal(run(model)[0], expected)


def test_too_little_room_is_told_before_anything_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    arranged, folder = Arrangement(model, IN_RAM, None), OffloadFolder(tmp_path)
    layer = sum(parameter.nbytes for parameter in model.model.layers[0].parameters())
    on_gpu = placed(("cpu", "cpu", "cuda:0", "cuda:0"), "compute")
    with pytest.raises(NoRoom) as gpu:
        arranged.rearrange(on_gpu, None, lambda _: layer, QUIET, Flag())
    assert gpu.value.stuck == Stuck("cuda:0", layer, 0)
    monkeypatch.setattr(folder, "check", _full)
    with pytest.raises(DiskFull) as disk:
        arranged.rearrange(ON_DISK, folder, plenty, QUIET, Flag())
    assert disk.value.values["needed_bytes"] == 2 * layer
    monkeypatch.undo()
    arranged.rearrange(ON_DISK, folder, plenty, QUIET, Flag())
    with pytest.raises(NoRoom) as ram:
        arranged.rearrange(IN_RAM, None, lambda _: 2 * layer - 1, QUIET, Flag())
    assert (ram.value.stuck.target, ram.value.stuck.needed_bytes) == ("cpu", layer)
    assert places(model) == ["cpu", "meta", "meta"]


def _full(nbytes: int) -> None:
    raise DiskFull(path="x", needed_bytes=nbytes, free_bytes=0)
