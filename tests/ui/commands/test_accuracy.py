"""Questions that say what is right: the accuracy is that of the whole answer file."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from backends.service import Service
from tests.support import checkpoints
from ui.cli import main
from ui.commands import batch
from ui.commands.accuracy import Accuracy, accuracy, is_right
from ui.commands.batch import Question, read_questions


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("Yes.", ["yes"], True),
        ("  It is\n a Circle! ", ["It is a circle."], True),
        ("red", ["blue", "Red"], True),
        ("No.", ["yes"], False),
        ("yes, and blue", ["yes"], False),
        ("", ["yes"], False),
        ("", [""], True),
    ],
)
def test_what_counts_as_right(answer: str, expected: list[str], right: bool) -> None:
    assert is_right(answer, expected) is right


def asked(key: str | int, *right: str) -> Question:
    return Question(key, None, "?", right)


@pytest.mark.parametrize(
    ("questions", "given", "found"),
    [
        pytest.param([asked(1), asked(2)], {1: "yes"}, None, id="the file does not say what is right"),
        pytest.param([asked(1, "yes"), asked(2)], {1: "yes", 2: "no"}, Accuracy(1, 1), id="one says it"),
        pytest.param([asked(1, "a"), asked(2, "b")], {1: "a"}, Accuracy(1, 1), id="one is not answered yet"),
        pytest.param([asked(1, "a"), asked("1", "b")], {1: "b", "1": "b"}, Accuracy(1, 2), id="1 is not '1'"),
    ],
)
def test_over_an_answer_file(
    questions: list[Question], given: dict[str | int, str], found: Accuracy | None, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    lines = [{"question_id": key, "text": text} for key, text in given.items()]
    out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert accuracy(questions, out) == found


@pytest.mark.parametrize(
    ("stated", "answers"), [("yes", ("yes",)), (["a", "b"], ("a", "b")), (None, ()), (7, ()), ([7], ())]
)
def test_what_a_question_file_may_say(stated: object, answers: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question_id": 1, "text": "?", "answer": stated}), encoding="utf-8")
    assert read_questions(path, tmp_path)[0].answers == answers


@pytest.mark.parametrize("as_json", [False, True])
def test_it_is_printed_and_counts_what_an_earlier_run_answered(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNUG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(batch, "Service", partial(Service, engine="fake", preload=False))
    questions, out = tmp_path / "q.jsonl", tmp_path / "a.jsonl"
    lines = [
        {"question_id": 1, "text": "hello", "answer": "something else"},
        {"question_id": 2, "text": "hello", "answer": ["What?", "I see 0 pictures. You said: hello"]},
        {"question_id": 3, "text": "hello", "answer": "what nobody says"},
        {"question_id": 4, "text": "hello"},
    ]
    questions.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    out.write_text('{"question_id": 1, "text": "something else"}\n', encoding="utf-8")
    model = str(checkpoints.starter_like(tmp_path / "model"))
    command = ["batch", model, "--preset", "cpu", "--questions", str(questions), "--images", str(tmp_path)]
    code = main([*command, "--out", str(out), *(["--json"] if as_json else [])])

    told = capsys.readouterr().out
    assert code == 0
    if as_json:
        assert json.loads(told) == {"accuracy": 2 / 3, "right": 2, "judged": 3}
    else:
        assert told == "Accuracy: 66.67 % (2 of 3 questions).\n"
