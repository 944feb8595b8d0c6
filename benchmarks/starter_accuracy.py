"""How often the starter model is right: a table, and benchmarks/results/starter_accuracy.json.

    python -m benchmarks.starter_accuracy [--model FOLDER] [--per-kind 200] [--easy-pictures 1000]

Runs the published weights through transformers with greedy decoding: every question of easy-VQA's
test split, `--per-kind` questions of each kind about held-out drawings, and hand-written chat that
no training template makes. Needs the `easy-vqa` package; a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from assets.training.evaluate import Answerer, Case, Score, chat, crowds, easy_test, held_out, judge, score

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "starter_accuracy.json"


def table(scores: list[Score]) -> str:
    """Markdown, one row per group."""
    lines = ["| questions | right | of | share |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {s.group} | {s.right} | {s.total} | {100 * s.share:.2f} % |" for s in scores]
    return "\n".join(lines)


def easy_total(scores: list[Score]) -> Score:
    """All of easy-VQA's test split in one row."""
    rows = [s for s in scores if s.group.startswith("easy-VQA")]
    return Score("easy-VQA, all", sum(s.right for s in rows), sum(s.total for s in rows))


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "starter")
    parser.add_argument("--per-kind", type=int, default=200)
    parser.add_argument("--easy-pictures", type=int, default=1000)
    parser.add_argument("--misses", type=int, default=0, help="print this many wrong answers a kind")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    cases: list[Case] = [
        *easy_test(options.easy_pictures),
        *held_out(options.per_kind),
        *crowds(options.per_kind),
        *chat(),
    ]
    started = time.monotonic()
    answers = Answerer(options.model)(cases)
    seconds = time.monotonic() - started
    scores = score(cases, answers)
    if options.easy_pictures:
        scores.insert(0, easy_total(scores))
    print(table(scores))
    print(f"\n{len(cases)} questions in {seconds:.0f} s on {torch.get_num_threads()} threads")
    shown: dict[str, int] = {}
    for case, answer in zip(cases, answers, strict=True):
        if not judge(case, answer) and shown.get(case.group, 0) < options.misses:
            shown[case.group] = shown.get(case.group, 0) + 1
            print(f"{case.group}: {case.question!r} -> {answer!r}, wanted {case.expected[0]!r}")
    report = {
        "questions": len(cases),
        "seconds": round(seconds, 1),
        "per_kind": options.per_kind,
        "scores": [
            {"group": s.group, "right": s.right, "total": s.total, "share": round(s.share, 4)} for s in scores
        ],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
