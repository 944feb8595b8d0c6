"""Write the starter's model card: what it reaches is claimed, what stays under its bar is not.

    python -m assets.training.card --folder RUNS

Figures come from `benchmarks/results/starter_accuracy.json`, steps and minutes from the stages' logs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template

from assets.training.evaluate import Score

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "starter_accuracy.json"
CARD = ROOT / "assets" / "starter" / "README.md"
STAGES = ("vision", "joint", "polish")
CLAIM_BAR = 0.9
DESCRIPTION_BAR = 0.85
KINDS = {
    "colour": 'the colour of a shape ("What colour is the star?")',
    "shape": 'the shape of a colour ("What is the red shape?")',
    "count all": "how many shapes there are",
    "count by colour": "how many of a colour",
    "count by shape": "how many of a shape",
    "count by colour and shape": 'how many of both ("How many red circles are there?")',
    "count, three to five alike": "how many of both, when three to five are alike",
    "existence": 'whether there is one ("Is there a blue square?")',
    "size": "which shape is the biggest or the smallest",
    "size comparison": 'which of two shapes is bigger ("Is the star bigger than the heart?")',
    "relation": 'left of, right of, above, below ("Is the red circle left of the blue square?")',
    "relative place": "on which side of one shape another lies",
    "outermost": "which shape is leftmost, rightmost, topmost or bottommost",
    "beside": "what is left of, right of, above or below a shape",
    "where": 'where a shape is ("at the top left")',
    "what is at": 'what is at a place ("What is at the top left?")',
    "background": "the colour of the background",
    "colours": "which colours the shapes have",
    "missing": "that a shape you ask about is not there",
}


def described(scores: Mapping[str, Score]) -> int:
    """Up to how many shapes descriptions reach their bar, without a gap."""
    count = 0
    while (one := scores.get(f"description, {count + 1}")) is not None and one.share >= DESCRIPTION_BAR:
        count += 1
    return count


def claims(scores: Mapping[str, Score]) -> str:
    """The list of what it answers."""
    reached = [text for kind, text in KINDS.items() if scores[kind].share >= CLAIM_BAR]
    lines = ["It answers, right in at least nine of ten cases:", "", *(f"- {text}" for text in reached)]
    most = described(scores)
    if most:
        shapes = f"{most} shape{'s' if most > 1 else ''}"
        share = f"{100 * DESCRIPTION_BAR:.0f} of 100 cases"
        lines += ["", f"It describes a picture of up to {shapes} in a sentence, right in at least {share}."]
    return "\n".join(lines)


def limits(scores: Mapping[str, Score]) -> str:
    """The list of what stays under its bar."""
    missed = [
        f"{text}: right in {100 * scores[kind].share:.0f} of 100 only"
        for kind, text in KINDS.items()
        if scores[kind].share < CLAIM_BAR
    ]
    missed += [
        f"describing {count} shapes: right in {100 * scores[f'description, {count}'].share:.0f} of 100"
        for count in range(described(scores) + 1, 6)
    ]
    return "\n".join(["Not claimed, because it is right less often:", "", *(f"- {text}" for text in missed)])


def table(scores: Mapping[str, Score]) -> str:
    """Every group with its figures."""
    rows = [
        f"| {one.group} | {one.right} | {one.total} | {100 * one.share:.2f} % |" for one in scores.values()
    ]
    return "\n".join(["| questions | right | of | share |", "| --- | ---: | ---: | ---: |", *rows])


def run_figures(folder: Path) -> dict[str, str]:
    """Steps of every stage, the commands that made them and their minutes in all."""
    last = {
        stage: json.loads((folder / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        for stage in STAGES
    }
    minutes = {stage: round(one["minutes"]) for stage, one in last.items()}
    commands = [
        f"    python -m assets.training.train --folder RUNS {stage} --minutes {minutes[stage]}"
        for stage in STAGES
    ]
    commands.append("    python -m assets.training.export --folder RUNS --stage polish")
    figures = {stage: f"{one['step']:,}" for stage, one in last.items()}
    return figures | {"commands": "\n".join(commands), "total": str(sum(minutes.values()))}


def card(scores: Mapping[str, Score], run: Mapping[str, str]) -> str:
    """The whole card."""
    template = Template((Path(__file__).with_name("card.md")).read_text(encoding="utf-8"))
    return template.substitute(run, claims=claims(scores), limits=limits(scores), table=table(scores))


def measured(path: Path = RESULTS) -> dict[str, Score]:
    """The scores that the benchmark wrote, by group."""
    written = json.loads(path.read_text(encoding="utf-8"))["details"]["scores"]
    return {group: Score(group, right, total) for group, right, total in written}


def main() -> None:
    """Parse the command line and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    CARD.write_text(card(measured(), run_figures(options.folder)), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
