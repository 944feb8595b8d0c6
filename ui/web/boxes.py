"""Pure: the boxes that an answer names -> the picture with them drawn on it, and the same as a list.

The picture is the stored one; the boxes lie over it, so that no file is made. Numbers tie box, list and text
together: a colour alone would not do for everybody, nor on every picture.
"""

from __future__ import annotations

from backends.grounding import Box, find
from backends.messages import ImagePart
from ui.i18n import Translator
from ui.web.chat_flow import Conversation
from ui.web.html import esc, file_url

_COLOURS = 6
# At most this wide and high; a small picture grows, so that its boxes can be told apart.
_WIDTH, _HEIGHT, _MOST_GROWTH = 560, 400, 4
# A number at the right or bottom edge stands inside; one that would cover a small box stands above it.
_LAST_NUMBER, _SMALL, _ROOM_ABOVE = 0.94, 0.12, 0.1


def picture_before(turns: Conversation, index: int) -> ImagePart | None:
    """The picture that the answer of turn `index` is about: the newest that the model has seen by then."""
    seen = [image for turn in turns[: index + 1] for image in turn.question.images]
    return seen[-1] if seen else None


def numbers(answer: str) -> tuple[tuple[str, str], ...]:
    """(Brackets as they are written, what their boxes are called) of `answer`, in its order."""
    named: list[tuple[str, str]] = []
    last = 0
    for mark in find(answer):
        first, last = last + 1, last + len(mark.boxes)
        named.append((answer[mark.start : mark.end], ", ".join(map(str, range(first, last + 1)))))
    return tuple(named)


def marked_html(answer: str, picture: ImagePart, say: Translator) -> str:
    """The picture with the answer's boxes; nothing for an answer without any."""
    found = [box for mark in find(answer) for box in mark.boxes]
    if not found:
        return ""
    boxes = list(enumerate(found, 1))
    url = esc(file_url(picture.path))
    told = "; ".join(f"{number}. {_told(box, say)}" for number, box in boxes)
    alt = say("boxes.alt", count=len(boxes), boxes=told)
    scale = min(_WIDTH / picture.width, _HEIGHT / picture.height, _MOST_GROWTH)
    size = f'width="{max(round(picture.width * scale), 1)}" height="{max(round(picture.height * scale), 1)}"'
    drawn = "".join(_drawn(number, box) for number, box in boxes)
    items = "".join(_item(number, box, say) for number, box in boxes)
    return (
        f'<figure class="sn-marked"><figcaption class="sn-note">{esc(say("boxes.title"))}</figcaption>'
        f'<a class="sn-canvas" href="{url}" target="_blank" rel="noopener"><img src="{url}" alt="{esc(alt)}" '
        f'{size}><svg aria-hidden="true">{drawn}</svg></a><ol class="sn-boxes">{items}</ol></figure>'
    )


def _told(box: Box, say: Translator) -> str:
    return f"{box.label or say('boxes.unnamed')}: {_where(box, say)}"


def _where(box: Box, say: Translator) -> str:
    edges = {"left": box.left, "right": box.right, "top": box.top, "bottom": box.bottom}
    return say("boxes.where", **{edge: round(100 * at) for edge, at in edges.items()})


def _drawn(number: int, box: Box) -> str:
    """A box with its number: thick and light below, coloured above, so that it shows on any picture."""
    edges = (
        f'x="{box.left:.1%}" y="{box.top:.1%}" '
        f'width="{box.right - box.left:.1%}" height="{box.bottom - box.top:.1%}"'
    )
    wide = 12 + 8 * len(str(number))
    small = min(box.right - box.left, box.bottom - box.top) < _SMALL
    above = ' transform="translate(0 -21)"' if small and box.top >= _ROOM_ABOVE else ""
    return (
        f'<g class="{_colour(number)}" data-number="{number}"><rect class="sn-halo" {edges}/>'
        f'<rect class="sn-edge" {edges}/><svg x="{min(box.left, _LAST_NUMBER):.1%}" '
        f'y="{min(box.top, _LAST_NUMBER):.1%}"><g{above}><rect class="sn-plate" width="{wide}" height="20" '
        f'rx="4"/><text x="{wide / 2:g}" y="14.5">{number}</text></g></svg></g>'
    )


def _item(number: int, box: Box, say: Translator) -> str:
    return (
        f'<li><button type="button" class="sn-box {_colour(number)}" data-box="{number}" '
        f'aria-pressed="false" title="{esc(say("boxes.show"))}"><i aria-hidden="true">{number}</i>'
        f"<b>{esc(box.label or say('boxes.unnamed'))}</b><span>{esc(_where(box, say))}</span></button></li>"
    )


def _colour(number: int) -> str:
    return f"sn-colour-{(number - 1) % _COLOURS}"
