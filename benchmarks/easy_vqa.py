"""easy-VQA's test split as a question file that `batch` reads: 9,673 questions about 1,000 pictures.

    python -m benchmarks.easy_vqa FOLDER
    python launch.py batch starter --questions FOLDER/questions.jsonl --images FOLDER --out A.jsonl

`batch` prints the accuracy at the end. Needs the `easy-vqa` package.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from assets.training import easy


def write(folder: Path, most_pictures: int | None = None) -> Path:
    """Write pictures and questions into `folder`; returns the question file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for number, picture in enumerate(easy.pictures("test", original=True)[:most_pictures]):
        name = f"{number}.png"
        Image.fromarray(picture.pixels).save(folder / name)
        for question, answer in picture.questions:
            line = {"question_id": len(lines), "image": name, "text": question, "answer": easy.spoken(answer)}
            lines.append(json.dumps(line))
    path = folder / "questions.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(write(parser.parse_args().folder))


if __name__ == "__main__":
    main()
