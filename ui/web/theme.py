"""Colours, fonts and the few lines of script that the page needs. Nothing here comes from elsewhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import gradio as gr

from ui.i18n import Language

_STATIC = Path(__file__).with_name("static")
_SANS = (
    "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "Microsoft YaHei",
    "PingFang SC", "sans-serif",
)  # fmt: skip
_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "DejaVu Sans Mono", "monospace")

# Run in the browser. A tab's id lives as long as the tab, so that a reload gets its conversation back.
ON_ARRIVAL = "() => window.snug.arrive()"
ON_ARRIVED = "() => window.snug.arrived()"
ON_LANGUAGE = "(language) => window.snug.language(language)"
ON_THEME = "() => window.snug.theme()"
ON_CAMERA = "() => window.snug.camera()"
ON_KEEP = "(text) => window.snug.keep(text)"
ON_LEAVING = "(draft, leaving) => window.snug.leave(draft, leaving)"
ON_SETUP = "() => window.snug.setup()"


# Gradio's names -> our colours (static/snug.css), which change by themselves between light and dark.
_COLOURS = {
    "ground": "body_background_fill background_fill_secondary",
    "paper": "background_fill_primary input_background_fill button_secondary_background_fill",
    "ink": "body_text_color block_title_text_color button_secondary_text_color",
    "ink-2": "body_text_color_subdued block_label_text_color block_info_text_color input_placeholder_color",
    "line": "border_color_primary input_border_color button_secondary_border_color",
    "hover": "button_secondary_background_fill_hover",
    "accent": "border_color_accent input_border_color_focus slider_color button_primary_background_fill "
    "button_primary_border_color",
    "accent-2": "button_primary_background_fill_hover button_primary_border_color_hover",
    "accent-soft": "color_accent_soft",
    "on-accent": "button_primary_text_color",
}
# What is no colour of ours and the same in light and dark; names with a dark twin of their own come first.
_PLAIN_TWICE = {
    "block_background_fill": "transparent",
    "block_label_background_fill": "transparent",
    "input_shadow_focus": "0 0 0 3px var(--sn-ring)",
}
_PLAIN = {
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_padding": "0",
    "block_label_border_width": "0px",
    "block_title_text_size": "var(--text-sm)",
    "block_title_text_weight": "600",
    "block_info_text_size": "12px",
    "color_accent": "var(--sn-accent)",
    "input_border_width": "1px",
    "input_shadow": "none",
    "button_border_width": "1px",
    "button_transition": "background-color .12s",
}


def build_theme() -> gr.themes.Base:
    """A calm, dense theme on system fonts."""
    twice = _PLAIN_TWICE | {
        name: f"var(--sn-{colour})" for colour, names in _COLOURS.items() for name in names.split()
    }
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        font=[gr.themes.Font(name) for name in _SANS],
        font_mono=[gr.themes.Font(name) for name in _MONO],
        text_size=gr.themes.sizes.text_md,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_md,
    ).set(**_PLAIN, **twice, **{f"{name}_dark": value for name, value in twice.items()})


def transcript_script() -> str:
    """What the conversation does on clicks; Gradio runs it once for each of its halves."""
    return (_STATIC / "transcript.js").read_text(encoding="utf-8")


def head() -> str:
    """The page's icon and style, inline: Gradio's own `css` would scope rules away from <html>.

    Gradio adds them after its own style, which they refine.
    """
    style = (_STATIC / "snug.css").read_text(encoding="utf-8")
    icon = "data:image/svg+xml," + quote((_STATIC / "icon.svg").read_text(encoding="utf-8"))
    scheme = '<meta name="color-scheme" content="light dark">'
    return f'{scheme}<link rel="icon" href="{icon}"><style>{style}</style>'


def early(language: Language) -> str:
    """The page's script, which must run before Gradio's; `language` is the one that the page is made in."""
    script = (_STATIC / "snug.js").read_text(encoding="utf-8")
    return (
        f'<meta name="snug-language" content="{language}">'
        f"<style>.sn-arriving main {{ visibility: hidden }}</style><script>{script}</script>"
    )
