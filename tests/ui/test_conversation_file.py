"""`ask --messages`: conversations as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.errors import ImageUnreadable, SettingInvalid
from backends.messages import ImagePart, Message, Role, TextPart
from ui.conversation_file import read_messages


def fake_import(path: Path, name: str) -> ImagePart:
    if not path.is_file():
        raise ImageUnreadable(name=name, detail="No such file.")
    return ImagePart(path, "digest", 1, 1)


def write(folder: Path, content: object) -> Path:
    path = folder / "chat.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_tools_stand_below_the_text_that_offers_them(tmp_path: Path) -> None:
    tools = [{"name": "天气", "parameters": {}}]
    path = write(
        tmp_path,
        [{"role": "system", "content": "You have:", "tools": tools}, {"role": "user", "content": "Hi"}],
    )
    system = read_messages(path, fake_import)[0]
    assert system.text == 'You have:\n[\n    {\n        "name": "天气",\n        "parameters": {}\n    }\n]'


@pytest.mark.parametrize("written", ["bilder/eins.png", "bilder\\eins.png"])
def test_paths_count_from_the_files_folder(written: str, tmp_path: Path) -> None:
    (tmp_path / "bilder").mkdir()
    (tmp_path / "bilder" / "eins.png").touch()
    parts = [{"type": "image", "path": written}, {"type": "text", "text": "What?"}]
    path = write(
        tmp_path,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": "A cat."},
            {"role": "user", "content": "Sure?"},
        ],
    )
    picture = ImagePart(tmp_path / "bilder" / "eins.png", "digest", 1, 1)
    assert read_messages(path, fake_import) == (
        Message(Role.SYSTEM, (TextPart("Be brief."),)),
        Message(Role.USER, (picture, TextPart("What?"))),
        Message(Role.ASSISTANT, (TextPart("A cat."),)),
        Message(Role.USER, (TextPart("Sure?"),)),
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ([], "list of messages"),
        ({"role": "user", "content": "hi"}, "list of messages"),
        ([{"role": "robot", "content": "hi"}], "Message 1 needs a role"),
        (["hi"], "Message 1 needs a role"),
        ([{"role": "user"}], "content of message 1"),
        ([{"role": "user", "content": [{"type": "video", "path": "a"}]}], "part of message 1"),
        ([{"role": "user", "content": [{"type": "text", "text": 3}]}], "part of message 1"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "must be the user's"),
    ],
    ids=str,
)
def test_bad_files(content: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match=says):
        read_messages(write(tmp_path, content), fake_import)


def test_a_missing_file_and_a_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="can't be read"):
        read_messages(tmp_path / "no.json", fake_import)
    path = write(tmp_path, [{"role": "user", "content": [{"type": "image", "path": "no.png"}]}])
    with pytest.raises(ImageUnreadable, match=r"no\.png"):
        read_messages(path, fake_import)
