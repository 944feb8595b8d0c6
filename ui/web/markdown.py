"""Pure: makes text that a model (or a person) wrote safe to show as Markdown.

The page's own sanitiser and its Content-Security-Policy stand behind this; here raw HTML becomes text
and pictures become links, so that no answer can load anything from elsewhere.
"""

from __future__ import annotations

import re

# Fenced blocks (also one that is still being written) and code spans are shown as they are.
_CODE = re.compile(r"(^[ ]{0,3}(`{3,}|~{3,})[^\n]*\n.*?(?:^[ ]{0,3}\2[`~]*[ ]*$|\Z))|((`+)[^`\n]+?\4(?!`))", re.M | re.S)
_PICTURE = re.compile(r"!(?=\[)")


def safe_markdown(text: str) -> str:
    """Escape raw HTML and picture syntax outside of code.

    >>> safe_markdown("<b>1</b> `<i>` ![x](http://a)")
    '&lt;b>1&lt;/b> `<i>` &#33;[x](http://a)'
    """
    pieces, end = [], 0
    for match in _CODE.finditer(text):
        pieces += [_escape(text[end : match.start()]), match.group()]
        end = match.end()
    return "".join([*pieces, _escape(text[end:])])


def _escape(text: str) -> str:
    return _PICTURE.sub("&#33;", text.replace("<", "&lt;"))
