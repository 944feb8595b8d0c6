"""Markdown that a model wrote -> HTML that is safe to show.

Raw HTML becomes text, pictures become links and only web and mail links are links, so that no answer can
run or load anything. The page's Content-Security-Policy stands behind this.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

_LINK_SCHEMES = ("http://", "https://", "mailto:")


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    parser.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    parser.validateLink = lambda url: url.strip().lower().startswith(_LINK_SCHEMES)  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link_open)
    parser.inline.ruler.before("link", "numbered", _numbered)
    parser.add_render_rule("numbered", _numbered_html)
    return parser


def _link_open(
    self: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: Any,  # noqa: ANN401 - the parser's own type
    _env: MutableMapping[str, Any],
) -> str:
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noopener noreferrer")
    return str(self.renderToken(tokens, index, options, _env))


def _numbered(state: StateInline, silent: bool) -> bool:
    """Take one of the places that have a number, in their order; one that stood in code is passed over."""
    places: Sequence[tuple[str, str]] = state.env.get("places", ())
    begin = state.env.get("next", 0)
    here = next(
        (index for index in range(begin, len(places)) if state.src.startswith(places[index][0], state.pos)),
        None,
    )
    if here is None:
        return False
    written, number = places[here]
    if not silent:
        state.env["next"] = here + 1
        token = state.push("numbered", "span", 0)
        token.content, token.meta = written, {"number": number}
    state.pos += len(written)
    return True


def _numbered_html(
    _self: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    _options: Any,  # noqa: ANN401 - the parser's own type
    _env: MutableMapping[str, Any],
) -> str:
    token = tokens[index]
    number = escapeHtml(str(token.meta["number"]))
    return f'<span class="sn-place" data-numbers="{number}">{escapeHtml(token.content)}</span>'


def to_html(text: str, places: Sequence[tuple[str, str]] = ()) -> str:
    r"""Render `text`; half-written Markdown of a streaming answer is fine.

    `places` are (piece of the text, its number), in their order: they keep their words and get the number.

    >>> to_html("**3** <script>")
    '<p><strong>3</strong> &lt;script&gt;</p>\n'
    """
    return str(_parser().render(text, {"places": places}))
