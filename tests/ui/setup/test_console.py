"""What the console shows, and when it stays open."""

from __future__ import annotations

import pytest

from ui.setup.console import only_python, progress_of


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["Collecting gradio<7,>=6.31"], "looking for gradio"),
        (["Collecting torch==2.13.0+cu130"], "looking for torch"),
        (["Collecting nvidia-ml-py>=13.580"], "looking for nvidia-ml-py"),
        (["Collecting"], ""),
        (["  Downloading torch-2.13.0-cp312.whl (888 MB)", "Progress 444000000 of 888000000"],
         "downloading torch 50% of 888 MB"),
        (["Progress 5 of 0"], ""),
        (["Installing collected packages: a, b, c"], "unpacking 3 packages"),
        (["Requirement already satisfied: x"], ""),
    ],
)  # fmt: skip
def test_progress_is_told_in_a_few_words(lines: list[str], shown: str) -> None:
    text = context = ""
    for line in lines:
        text, context = progress_of(line, context)
    assert text == shown


@pytest.mark.parametrize(
    ("programs", "ours"),
    [
        (["py.exe", "python.exe"], True),
        (["PYTHON3.12.EXE"], True),
        (["cmd.exe", "python.exe"], False),
        (["powershell.exe", "py.exe", "python.exe"], False),
        ([""], False),
        ([], False),
    ],
)
def test_the_window_waits_only_when_no_shell_keeps_it_open(programs: list[str], ours: bool) -> None:
    assert only_python(programs) is ours
