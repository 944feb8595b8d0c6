"""What transformers calls the tensors of a published file, by its own rules of renaming.

The rules are lists of calls such as `WeightRenaming(source, target)`, by family. A family's list is evaluated
with stand-ins that only take down what they are given, since importing it brings torch. Rules that join
experts or split a fused matrix are left out: what they do stays inside of modules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from backends.models.conversion_rules import written_rules

_LOOK_AROUND = re.compile(r"\(\?.+?\)?\)")
_GROUP = re.compile(r"\(.+?\)")
# Every other kind of rule that the function names.
_LEFT_OUT = (
    *("Chunk", "Concatenate", "Interleave", "MergeModulelist", "PermuteForRope", "Split", "Transpose"),
    *("GroupWeightRename", "Inkling2IndexOffsetWeightRename", "WeightTransform"),
    *("ErnieFuseAndSplitTextVisionExperts", "Conv3dToLinear", "VisionFuseAndPermuteForRope"),
)


@dataclass(frozen=True, slots=True)
class Rename:
    """One rule: where `source` is found, it becomes `target`, which may hold the found text's first group."""

    source: re.Pattern[str]
    target: str

    def apply(self, name: str) -> str:
        """`name` by this rule; as it is where the rule does not apply."""
        found = self.source.search(name)
        if found is None:
            return name
        target = self.target.replace(r"\1", found.group(1) or "") if found.groups() else self.target
        return name.replace(found.group(0), target, 1)


def renamed(
    names: Iterable[str], family: str, architecture: str, inside: Sequence[str] = ()
) -> Mapping[str, str]:
    """Map every tensor name of a file of `family` to what transformers' rules make of it.

    Rules of the class `architecture` come before those of the family; without any, names stay. `inside` are
    the class and the family of the language model that is a part of it, whose rules hold below its level.
    """
    chosen = _rules(architecture) or _rules(family)
    inner = next((rules for key in inside if (rules := _rules(key))), ())
    found: dict[str, str] = {}
    for name in names:
        new = name
        for rule in chosen:
            new = rule.apply(new)
        above, level, below = new.partition("language_model.")
        for rule in inner if level else ():
            below = rule.apply(below)
        found[name] = above + level + below
    return found


@lru_cache(maxsize=64)
def _rules(key: str) -> tuple[Rename, ...]:
    """The rules of a model type or class."""
    return tuple(rule for written in written_rules(key) for rule in _evaluated(written))


def _evaluated(written: str) -> list[Rename]:
    known: dict[str, Callable[..., object]] = {
        **dict.fromkeys(_LEFT_OUT, _nothing),
        "WeightRenaming": _renaming,
        "WeightConverter": _converting,
        "PrefixChange": _prefix,
    }
    try:
        made = eval(f"[{written}]", {"__builtins__": {}}, known)  # noqa: S307 - the installed library's own code
    except Exception:  # noqa: BLE001 - another version may need what is not here: names are then left alone
        return []
    rules = [rule for found in made for rule in (found if isinstance(found, list) else [found])]
    return [rule for rule in rules if isinstance(rule, Rename)]


def _nothing(*_: object, **__: object) -> None:
    """What is left out."""


def _renaming(
    source_patterns: str | list[str], target_patterns: str | list[str], **_: object
) -> Rename | None:
    """A rule of one name for another; of several for one, the first is never a module's."""
    if isinstance(source_patterns, list) or isinstance(target_patterns, list):
        return None
    # The target is written as a pattern, too: so that the rule can be read backwards.
    target = _LOOK_AROUND.sub("", target_patterns.removeprefix("^"))
    target = _GROUP.sub(lambda _: r"\1", target, count=1).replace(r"\.", ".")
    return Rename(_pattern(source_patterns), target)


def _converting(
    source_patterns: str | list[str], target_patterns: str | list[str], **_: object
) -> list[Rename | None]:
    """Rules for tensors that are put together to one, where they are not experts."""
    sources = source_patterns if isinstance(source_patterns, list) else [source_patterns]
    targets = target_patterns if isinstance(target_patterns, list) else [target_patterns]
    if len(targets) != 1 or any("expert" in source or "*" in source for source in sources):
        return []
    return [_renaming(source, targets[0]) for source in sources]


def _pattern(source: str) -> re.Pattern[str]:
    source = source.replace("*.", r".*\.")
    # A pattern ends where a name does.
    return re.compile(source + r"(?!\w)" if re.search(r"[a-zA-Z0-9]$", source) else source)


def _prefix(
    prefix_to_add: str | None = None, prefix_to_remove: str | None = None, model_prefix: str | None = None
) -> Rename:
    """A level that is put before a name, or taken away."""
    inside = rf"{model_prefix}\." if model_prefix else ""
    before = f"{model_prefix}." if model_prefix else ""
    if prefix_to_add is not None:
        return Rename(_pattern(rf"^{inside}(?!{prefix_to_add}\.)(.+)"), rf"{before}{prefix_to_add}.\1")
    return Rename(_pattern(rf"^{inside}{prefix_to_remove}\.(.+)"), rf"{before}\1")
