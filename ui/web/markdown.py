"""Markdown that a model wrote -> HTML that is safe to show.

Raw HTML becomes text, pictures become links and only web and mail links are links, so that no answer can
run or load anything. The page's Content-Security-Policy stands behind this.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

_LINK_SCHEMES = ("http://", "https://", "mailto:")


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    parser.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    parser.validateLink = lambda url: url.strip().lower().startswith(_LINK_SCHEMES)  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link_open)
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


def to_html(text: str) -> str:
    r"""Render `text`; half-written Markdown of a streaming answer is fine.

    >>> to_html("**3** <script>")
    '<p><strong>3</strong> &lt;script&gt;</p>\n'
    """
    return str(_parser().render(text))
