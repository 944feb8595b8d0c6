"""What a config names is found beside the checkpoint, whichever machine's path it is written as."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.models.originals.companions import find_companion
from tests.support.recipes import nowhere

NAME = "clip-vit-large-patch14-336"


def made(place: Path) -> Path:
    """A folder that may be a model's."""
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}", encoding="utf-8")
    return place


@pytest.mark.parametrize(
    "stated",
    [
        f"openai/{NAME}",
        f"openai\\{NAME}",
        f"./checkpoints/openai/{NAME}/",
        f"/data/openai/{NAME}",
        f"D:\\models\\openai\\{NAME}",
        f"D:/models/openai/{NAME}/",
        f"\\\\server\\share\\openai\\{NAME}",
    ],
)
@pytest.mark.parametrize(
    "beside", [f"openai/{NAME}", NAME, f"checkpoint/openai/{NAME}", f"checkpoint/{NAME}"]
)
def test_another_machines_path_is_looked_for_by_its_last_parts(
    stated: str, beside: str, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint").mkdir()
    place = made(tmp_path / beside)
    assert find_companion(tmp_path / "checkpoint", stated, nowhere) == place


@pytest.mark.parametrize("stated", [f"/{NAME}", f"D:\\{NAME}"])
def test_a_path_of_one_part_is_looked_for_by_it(stated: str, tmp_path: Path) -> None:
    place = made(tmp_path / NAME)
    assert find_companion(tmp_path / "checkpoint", stated, nowhere) == place


def test_the_name_with_its_owner_comes_first(tmp_path: Path) -> None:
    place = made(tmp_path / "openai" / NAME)
    made(tmp_path / NAME)
    assert find_companion(tmp_path / "checkpoint", f"/data/openai/{NAME}", nowhere) == place


@pytest.mark.parametrize("stated", [None, 7, "", "  ", [], "x" * 5000, "a\0b", ".", "/", "D:\\"])
def test_what_names_nothing_finds_nothing(stated: object, tmp_path: Path) -> None:
    made(tmp_path / "checkpoint")
    assert find_companion(tmp_path / "checkpoint", stated, nowhere) is None
