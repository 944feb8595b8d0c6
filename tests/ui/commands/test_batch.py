"""`batch`: no line is lost, none is answered twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.errors import AnswersDiskFull, AnswersUnwritable, SettingInvalid
from ui.commands.batch import Question, _append, _write, read_questions, unanswered

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
        ('{"question_id": 1, "text": "a\u2028b"', "Line 1 is not JSON"),
        ('{"question_id": 1, "image": "no.png", "text": "?"}', r"1 pictures are missing, such as no\.png"),
    ],
)
def test_bad_questions(content: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingInvalid, match=says):
        read_questions(path, tmp_path)


def test_separators_that_json_allows_do_not_cut_a_question(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    text = "one\u2028two\x85three"
    path.write_text(
        json.dumps({"question_id": 1, "text": text}, ensure_ascii=False) + "\r\n", encoding="utf-8"
    )
    assert read_questions(path, tmp_path) == [Question(1, None, text)]


def test_a_question_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes('{"question_id": 1, "text": "图片里"}'.encode("gbk"))
    with pytest.raises(SettingInvalid, match="not UTF-8"):
        read_questions(path, tmp_path)


def test_a_folder_is_no_answer_file(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="not a file"):
        unanswered(QUESTIONS, tmp_path)


def test_half_a_character_is_written_as_json_writes_it(tmp_path: Path) -> None:
    with _append(tmp_path / "a.jsonl") as out:
        _write(out, {"text": "a\ud83d 图"})
    assert json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8")) == {"text": "a\ud83d 图"}


def test_a_place_for_answers_that_cannot_be_written_needs_another_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AnswersUnwritable, match="--out") as caught:
        _append(tmp_path / "file" / "a.jsonl")
    assert "SNUG_HOME" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_is_named() -> None:
    out = Path("/dev/full").open("a", encoding="utf-8")  # noqa: SIM115 - closing it fails, too
    with pytest.raises(AnswersDiskFull, match="goes on where it stopped"):
        _write(out, {"text": "x"})
    with pytest.raises(OSError, match="No space"):
        out.close()
