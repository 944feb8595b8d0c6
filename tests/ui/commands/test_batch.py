"""`batch`: no line is lost, none is answered twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.errors import SettingInvalid
from ui.commands.batch import Question, read_questions, unanswered

QUESTIONS = [Question(1, "a.png", "What?"), Question(2, None, "Why?"), Question("c", "a.png", "Where?")]


def answers(*keys: object) -> str:
    return "".join(json.dumps({"question_id": key, "text": "x"}) + "\n" for key in keys)


@pytest.mark.parametrize(
    ("case", "held", "asked", "kept"),
    [
        ("no answer file yet", None, [1, 2, "c"], None),
        ("empty answer file", "", [1, 2, "c"], ""),
        ("one answered", answers(1), [2, "c"], answers(1)),
        ("answered in another order", answers("c", 1), [2], answers("c", 1)),
        ("all answered", answers(1, 2, "c"), [], answers(1, 2, "c")),
        ("a line cut short is asked again", answers(1) + '{"question_id": 2, "te', [2, "c"], answers(1)),
        ("a whole line without its end is asked again", answers(1, 2)[:-1], [2, "c"], answers(1)),
        ("answers to other questions stay", answers(7), [1, 2, "c"], answers(7)),
    ],
)
def test_resumes(case: str, held: str | None, asked: list[object], kept: str | None, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    if held is not None:
        out.write_text(held, encoding="utf-8", newline="\n")
    assert [question.id for question in unanswered(QUESTIONS, out)] == asked, case
    assert (out.read_text(encoding="utf-8") if out.exists() else None) == kept, case


def test_questions_with_the_same_id_are_each_answered(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    out.write_text(answers(1), encoding="utf-8")
    assert unanswered([QUESTIONS[0], QUESTIONS[0]], out) == [QUESTIONS[0]]


def test_an_answer_file_that_is_something_else_is_not_touched(tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("my notes\nmore\n", encoding="utf-8")
    with pytest.raises(SettingInvalid, match="Line 1 is not an answer"):
        unanswered(QUESTIONS, out)
    assert out.read_text(encoding="utf-8") == "my notes\nmore\n"


def test_reads_questions(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    path = tmp_path / "q.jsonl"
    lines = [{"question_id": q.id, "image": q.image, "text": q.text} for q in QUESTIONS]
    path.write_text("\n\n".join(json.dumps(line) for line in lines), encoding="utf-8-sig")
    assert read_questions(path, tmp_path) == QUESTIONS


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "can't be read"),
        ("", "holds no question"),
        ("{", "Line 1 is not JSON"),
        ('\n{"question_id": 1}', "Line 2 needs"),
        ('{"question_id": 1, "image": "no.png", "text": "?"}', r"1 pictures are missing, such as no\.png"),
    ],
)
def test_bad_questions(content: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingInvalid, match=says):
        read_questions(path, tmp_path)
