"""Which layers of a GGUF model go to which GPU: as many of the last ones as fit."""

from __future__ import annotations

import pytest

from backends.models.identify import identify
from backends.models.types import ModelInfo
from tests.support.gguf_plans import (
    MAKERS,
    SIX_GB,
    TWENTY_FOUR_GB,
    TWO_8_GB,
    made,
    share,
)
from tests.support.machines import GIB, gpu, machine, process


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelInfo]:
    folder = tmp_path_factory.mktemp("gguf")
    return {name: identify(make(folder / name)) for name, make in MAKERS.items()}


class TestLayers:
    def test_the_gpu_gets_the_last_layers_with_the_head(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["llava"], SIX_GB)
        places = dict(result.device_map)

        first = 32 - result.gpu_layers
        assert [places[f"blk.{layer}"] for layer in range(32)] == ["cpu"] * first + [
            "cuda:0"
        ] * result.gpu_layers
        assert (places["output_norm"], places["output"], places["token_embd"]) == ("cuda:0", "cuda:0", "cpu")
        assert places["mmproj"] == "cuda:0"

    @pytest.mark.parametrize("name", MAKERS)
    @pytest.mark.parametrize("free", [2.5, 3.2, 4.5, 5.5, 7.5, 11.0])
    def test_as_many_as_fit_and_not_one_fewer(
        self, found: dict[str, ModelInfo], name: str, free: float
    ) -> None:
        """Counted out: with one layer more the same plan is over the card's budget."""
        hardware = machine(gpu(0, "Card", 24, free=free), ram=64)
        model = found[name]
        result = made(model, hardware, "mid")
        if not 0 < result.gpu_layers < model.layers:
            return
        more = made(model, hardware, "custom", gpu_layers=result.gpu_layers + 1)

        assert result.verdict != "no"
        over = [one for one in more.devices if one.total_bytes > one.budget_bytes]
        assert more.verdict == "no" or dict(more.device_map).get("mmproj") == "cpu"
        assert over or dict(more.device_map).get("mmproj") == "cpu"

    @pytest.mark.parametrize("layers", [1, 7, 31])
    def test_a_number_by_hand_is_kept(self, found: dict[str, ModelInfo], layers: int) -> None:
        result = made(found["llava"], TWENTY_FOUR_GB, "custom", gpu_layers=layers)

        assert (result.gpu_layers, result.cpu_layers_mode, result.verdict) == (layers, "compute", "fits")

    def test_none_by_hand_is_the_cpu(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["llava"], TWENTY_FOUR_GB, "custom", gpu_layers=0)

        assert set(dict(result.device_map).values()) == {"cpu"}

    def test_several_gpus_share_contiguous_layers(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["qwen"], TWO_8_GB, "high")
        places = [device for name, device in result.device_map if name.startswith("blk.")]

        assert places == sorted(places)
        assert set(places) == {"cuda:0", "cuda:1"}
        assert abs(places.count("cuda:0") - places.count("cuda:1")) <= 6  # the picture part is on the first
        assert dict(result.device_map)["output"] == "cuda:1"
        assert result.visible_gpus == (0, 1)

    def test_a_busy_gpu_comes_last(self, found: dict[str, ModelInfo]) -> None:
        busy = gpu(0, free=3.5, processes=(process(gib=20),))
        result = made(found["llava"], machine(busy, gpu(1), ram=32))

        assert result.visible_gpus == (1,)
        assert any("process 4321" in str(reason) for reason in result.reasons)

    def test_a_limit_by_hand_counts(self, found: dict[str, ModelInfo]) -> None:
        limits = (("cuda:0", 3 * GIB),)
        result = made(found["llava"], TWENTY_FOUR_GB, "mid", max_memory=limits)

        assert 0 < result.gpu_layers < 32
        assert share(result, "cuda:0").total_bytes <= 3 * GIB
