"""Models are found by what a person calls them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backends.errors import ModelNotFound, StarterMissing
from backends.models.catalog import entries, resolve
from backends.settings import Settings
from tests.support import checkpoints, gguf_files


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    checkpoints.starter_like(tmp_path / "assets" / "starter")
    checkpoints.starter_like(tmp_path / "models" / "llava tiny 小")
    checkpoints.starter_like(tmp_path / "models" / "acme" / "nested")
    (tmp_path / "models" / "no model here").mkdir()
    return Settings(
        home=tmp_path / "home",
        model_folders=(tmp_path / "models", tmp_path / "absent"),
        starter=tmp_path / "assets" / "starter",
        examples=tmp_path / "examples",
    )


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    repo = tmp_path / "hub" / "models--llava-hf--llava-1.5-7b-hf"
    checkpoints.starter_like(repo / "snapshots" / "aaa")
    checkpoints.starter_like(repo / "snapshots" / "zzz")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("aaa", encoding="utf-8")
    (tmp_path / "hub" / "models--acme--unfinished" / "snapshots" / "b").mkdir(parents=True)
    (tmp_path / "hub" / "datasets--acme--data" / "snapshots" / "b").mkdir(parents=True)
    return {"HF_HUB_CACHE": str(tmp_path / "hub")}


def test_the_dropdown_lists_starter_folders_and_hub_snapshots(
    settings: Settings, environ: dict[str, str]
) -> None:
    found = entries(settings, environ)

    assert [entry.label for entry in found] == [
        "Starter",
        "acme/nested",
        "llava tiny 小",
        "llava-hf/llava-1.5-7b-hf",
    ]
    assert found[0].key == "starter"
    assert all(entry.path.is_dir() for entry in found)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param("starter", "assets/starter", id="the bundled model"),
        pytest.param("llava tiny 小", "models/llava tiny 小", id="a name in a model folder"),
        pytest.param("acme/nested", "models/acme/nested", id="publisher and model"),
        pytest.param(
            "llava-hf/llava-1.5-7b-hf",
            "hub/models--llava-hf--llava-1.5-7b-hf/snapshots/aaa",
            id="a Hub id: main",
        ),
    ],
)
def test_names(settings: Settings, environ: dict[str, str], tmp_path: Path, name: str, place: str) -> None:
    assert resolve(name, settings, environ) == tmp_path / place


def test_a_path_is_itself_also_in_quotes(settings: Settings, environ: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "models" / "llava tiny 小"

    assert resolve(str(folder), settings, environ) == folder
    assert resolve(f'"{folder}"', settings, environ) == folder


def test_folders_of_gguf_files_have_names_and_are_offered(
    settings: Settings, environ: dict[str, str], tmp_path: Path
) -> None:
    local = gguf_files.llava_15_7b(tmp_path / "models" / "acme").parent
    hub = tmp_path / "hub" / "models--acme--pear-gguf" / "snapshots" / "c"
    gguf_files.mixtral_8x7b(hub)

    assert resolve("acme", settings, environ) == local
    assert resolve("acme/pear-gguf", settings, environ) == hub
    assert resolve("acme/nested", settings, environ) == tmp_path / "models" / "acme" / "nested"
    assert {"acme", "acme/pear-gguf"} <= {entry.label for entry in entries(settings, environ)}


def test_each_of_several_gguf_models_of_a_folder_has_a_name(
    settings: Settings, environ: dict[str, str], tmp_path: Path
) -> None:
    several = tmp_path / "models" / "several"
    gguf_files.llava_15_7b(several)
    other = gguf_files.tiny(several / "other-Q4_0.gguf")
    direct = gguf_files.tiny(tmp_path / "models" / "direct.gguf")
    found = {entry.label: entry.path for entry in entries(settings, environ)}
    assert found["several/other-Q4_0"] == resolve("several/other-Q4_0", settings, environ) == other
    assert found["direct"] == resolve("direct", settings, environ) == direct
    assert "several" not in found
    assert not [name for name in found if "mmproj" in name]


def test_a_split_set_is_one_model(settings: Settings, environ: dict[str, str], tmp_path: Path) -> None:
    for number in (1, 2):
        gguf_files.tiny(tmp_path / "models" / f"big-0000{number}-of-00002.gguf")
    assert resolve("big", settings, environ).name == "big-00001-of-00002.gguf"
    assert [entry.label for entry in entries(settings, environ)].count("big") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_file_keeps_its_name_and_its_neighbours(settings: Settings, tmp_path: Path) -> None:
    """The Hub's cache: names are links to blobs that lie elsewhere."""
    blob = gguf_files.mixtral_8x7b(tmp_path / "blobs")
    link = tmp_path / "snapshots" / "pear-Q4_0.gguf"
    link.parent.mkdir()
    link.symlink_to(blob)

    assert resolve(str(link), settings) == link


def test_a_misspelt_name_gets_the_nearest(settings: Settings, environ: dict[str, str]) -> None:
    with pytest.raises(ModelNotFound, match="Did you mean starter"):
        resolve("startre", settings, environ)


@pytest.mark.parametrize("name", ["", "   ", "no/such/model", "bad\0path", "~nobody-at-all/x"])
def test_names_that_mean_nothing(settings: Settings, environ: dict[str, str], name: str) -> None:
    with pytest.raises(ModelNotFound):
        resolve(name, settings, environ)


def test_a_missing_starter_is_said(settings: Settings, environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(StarterMissing, match=r"starter model is missing.*name another model"):
        resolve("starter", replace(settings, starter=tmp_path / "gone"), environ)


def test_default_hub_cache_follows_its_variables(settings: Settings, tmp_path: Path) -> None:
    checkpoints.starter_like(tmp_path / "hf" / "hub" / "models--a--b" / "snapshots" / "c")

    assert resolve("a/b", settings, {"HF_HOME": str(tmp_path / "hf")}).name == "c"
