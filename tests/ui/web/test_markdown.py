"""Answers are Markdown of unknown origin: formatted, and harmless."""

from __future__ import annotations

import pytest

from ui.web.markdown import to_html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**three** circles", "<strong>three</strong>"),
        ("- a\n- b", "<li>a</li>"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "<td>1</td>"),
        ("`<b>`", "<code>&lt;b&gt;</code>"),
        ("one\ntwo", "one<br />"),
        ("```\nx < y", "x &lt; y"),
        ("[site](https://example.org)", 'rel="noopener noreferrer"'),
        ("[site](https://example.org)", 'target="_blank"'),
    ],
)
def test_markdown_is_formatted(text: str, html: str) -> None:
    assert html in to_html(text)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a <b onclick='x'>b</b>",
        "<iframe src='http://a'></iframe>",
        "![picture](http://example.org/steal.png)",
        "[click](javascript:alert(1))",
        "[click](JaVaScRiPt:alert(1))",
        "[click](data:text/html;base64,PHNjcmlwdD4=)",
        "<a href='javascript:alert(1)'>x</a>",
        "[ref]\n\n[ref]: javascript:alert(1)",
        "<javascript:alert(1)>",
        "<!-- <script> -->",
        "```html\n<script>alert(1)</script>\n```",
        '[x](https://a"onmouseover="alert(1))',
    ],
)
def test_nothing_runs_or_loads(text: str) -> None:
    html = to_html(text).lower()
    for tag in (
        "<script",
        "<img",
        "<iframe",
        "<!--",
        "<b onclick",
        'href="javascript',
        'href="data',
        '"onmouse',
    ):
        assert tag not in html
