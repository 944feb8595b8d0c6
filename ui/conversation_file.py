"""A conversation written as JSON (`ask --messages`) -> messages, with a clear error for bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from backends.errors import SettingInvalid
from backends.messages import ImagePart, Message, Part, Role, TextPart
from backends.text import Text

ImportImage = Callable[[Path, str], ImagePart]


def read_messages(path: Path, import_image: ImportImage) -> tuple[Message, ...]:
    """Read `[{"role", "content": str | [{"type": "image", "path"} | {"type": "text", "text"}]}]`.

    Relative picture paths count from the file's folder. A message's "tools", a list of JSON objects, stand
    below its text, as ChatGLM3 was trained to read them. Raises `SettingInvalid`, or what
    `import_image` raises.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _invalid(path, f"The file can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise _invalid(path, f"The file is not JSON: {error}.") from error
    if not isinstance(content, list) or not content:
        raise _invalid(path, "It must hold a list of messages.")
    messages = tuple(
        _message(path, number, item, import_image) for number, item in enumerate(content, start=1)
    )
    if messages[-1].role is not Role.USER:
        raise _invalid(path, "The last message must be the user's: it is the question.")
    return messages


def _message(path: Path, number: int, item: object, import_image: ImportImage) -> Message:
    if not isinstance(item, dict) or item.get("role") not in list(Role):
        raise _invalid(path, f"Message {number} needs a role: system, user or assistant.")
    content = item.get("content")
    if isinstance(content, str):
        if "tools" in item:
            content = f"{content}\n{json.dumps(item['tools'], indent=4, ensure_ascii=False)}"
        return Message(Role(item["role"]), (TextPart(content),))
    if not isinstance(content, list):
        raise _invalid(path, f"The content of message {number} must be a text or a list of parts.")
    return Message(Role(item["role"]), tuple(_part(path, number, part, import_image) for part in content))


def _part(path: Path, number: int, part: object, import_image: ImportImage) -> Part:
    match part:
        case {"type": "text", "text": str(text)}:
            return TextPart(text)
        case {"type": "image", "path": str(name)}:
            # A conversation written on Windows must open elsewhere.
            return import_image(path.parent / name.replace("\\", "/"), name)
        case _:
            raise _invalid(
                path,
                f'A part of message {number} is neither {{"type": "text", "text"}} '
                f'nor {{"type": "image", "path"}}.',
            )


def _invalid(path: Path, detail: str) -> SettingInvalid:
    return SettingInvalid(
        name="--messages",
        value=str(path),
        detail=detail,
        suggestion=Text("cli.messages_remedy", "Correct the file and run the command again."),
    )
