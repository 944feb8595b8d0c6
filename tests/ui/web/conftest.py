"""What tests of the page share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backends.hardware.describe import read_file
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from tests.support import checkpoints
from tests.support.climbing_tab import HARDWARE, Open
from tests.support.climbing_tab import Tab as ClimbingTab
from tests.support.processes import children
from tests.support.tab import Tab


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    made = Tab(tmp_path)
    yield made
    made.service.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a picture.png"
    Image.new("RGB", (32, 24), "red").save(path)
    return path


@pytest.fixture
def open_tab(tmp_path: Path) -> Iterator[Open]:
    tabs: list[ClimbingTab] = []
    before = children()

    def make(name: str = "llava", machine: str = "no_gpu_32gb", **overrides: Any) -> ClimbingTab:
        model = checkpoints.llava_15_7b(tmp_path / name)
        request = PlanRequest(str(model), Preset.AUTO, Overrides(**overrides))
        tabs.append(ClimbingTab(tmp_path / "家 home", request, read_file(HARDWARE / f"{machine}.json")))
        return tabs[-1]

    yield make
    for tab in tabs:
        tab.service.close()
    assert children() <= before
