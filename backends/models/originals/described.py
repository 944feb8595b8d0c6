"""What planning needs to know of a recipe: its tensors as loaded, what merging changes, what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from backends.models.originals.headers import Headers
from backends.models.originals.types import Delta, Part, Recipe
from backends.models.types import Adapter, Module, Tensor


def recipe_tensors(recipe: Recipe, headers: Headers) -> list[Tensor]:
    """Every tensor of the loaded model by its name there, with the sizes that it has in its file."""
    return [replace(headers.of(source.part).tensor, name=name) for name, source in recipe.sources.items()]


def with_merged(modules: Sequence[Module], recipe: Recipe, headers: Headers) -> tuple[Module, ...]:
    """`modules` with the parameters that a LoRA changes among those that loading puts together anew."""
    changed: dict[str, int] = {}
    for name, source in recipe.sources.items():
        if source.deltas:
            owner = next((one.name for one in modules if name.startswith(f"{one.name}.")), "")
            changed[owner] = changed.get(owner, 0) + headers.of(source.part).tensor.parameters
    return tuple(
        replace(one, converted_parameters=min(one.parameters, one.converted_parameters + changed[one.name]))
        if one.name in changed
        else one
        for one in modules
    )


def added_by(recipe: Recipe, headers: Headers) -> Adapter | None:
    """The LoRA of a recipe; None where there is none."""
    deltas = list(_deltas(recipe))
    if not deltas:
        return None
    rank = max(headers.of(delta.down).tensor.shape[0] for delta in deltas)
    nbytes = sum(headers.of(part).tensor.nbytes for delta in deltas for part in (delta.down, delta.up))
    return Adapter(recipe.folder.name, rank, nbytes, str(recipe.companions.base or ""))


def is_complete(recipe: Recipe, headers: Headers, sizes: Mapping[Path, int]) -> bool:
    """Whether the weight files, of these sizes in bytes, hold values, and not their headers only."""
    parts: list[Part] = [source.part for source in recipe.sources.values()]
    parts += [part for delta in _deltas(recipe) for part in (delta.down, delta.up)]
    found = ((part, headers.of(part)) for part in parts)
    return all(at.offset + at.tensor.nbytes <= sizes[part.file] for part, at in found)


def _deltas(recipe: Recipe) -> Iterator[Delta]:
    return (delta for source in recipe.sources.values() for delta in source.deltas)
