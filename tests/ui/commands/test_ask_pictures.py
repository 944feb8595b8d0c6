"""`ask` with several pictures: planned for where their number takes memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.messages import ImagePart, Message, Role
from backends.placement.types import Overrides, PlanRequest
from backends.service import Service
from backends.settings import load_settings
from tests.support import checkpoints
from ui.commands.ask import with_room

PICTURE = ImagePart(Path("a.png"), "a", 8, 8)


def all_at_once(folder: Path) -> Path:
    """A family that looks at all pictures of a chat in one pass."""
    config = checkpoints.llava_15_7b(folder) / "config.json"
    stated = json.loads(config.read_text(encoding="utf-8"))
    stated |= {"model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"]}
    config.write_text(json.dumps(stated), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("write", "set_by_hand", "pictures", "planned"),
    [
        pytest.param(all_at_once, None, 3, 3, id="all at once: as many as are asked about"),
        pytest.param(all_at_once, None, 1, None, id="one is planned for anyway"),
        pytest.param(all_at_once, 2, 3, 2, id="what was set stays"),
        pytest.param(checkpoints.cogvlm_17b, None, 3, None, id="a model for one picture only"),
        pytest.param(checkpoints.qwen25_vl_7b, None, 3, None, id="one after the other: no need"),
        pytest.param(checkpoints.llama, None, 3, None, id="a model without eyes"),
    ],
)
def test_pictures_that_are_asked_about_are_planned_for(
    write: Callable[[Path], Path], set_by_hand: int | None, pictures: int, planned: int | None, tmp_path: Path
) -> None:
    asked = PlanRequest(str(write(tmp_path / "model")), overrides=Overrides(images=set_by_hand))
    messages = (Message(Role.USER, (PICTURE,) * pictures),)
    with Service(load_settings({"SNUG_HOME": str(tmp_path)}), preload=False, engine="fake") as service:
        assert with_room(service, asked, messages).overrides.images == planned
