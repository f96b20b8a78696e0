"""How the page looks: system fonts only, so that no request ever leaves the machine."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

# Gradio confines this to the inside of the page.
STYLE_SHEET = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")
# This reaches the margin of the page, and what the script marks on the document.
STALE = "Photo, words or settings have changed since this answer; it is still the old one."
_OUTER_STYLE = f"""
@media (max-width: 640px) {{
  .main.fillable {{ padding: .75rem !important; }}
  body {{ padding-bottom: 4.5rem; }}
  #segment-start, #compare-start, #inspect-start, #video-start {{ position: fixed; left: .75rem;
    right: .75rem; bottom: .75rem; width: auto; z-index: 60; box-shadow: 0 2px 14px rgba(0, 0, 0, .35); }}
  :is(#segment-start, #compare-start, #inspect-start, #video-start):disabled {{ opacity: 1;
    filter: grayscale(.7); }}
  #summary [role=status], #compare-table .ovs-table, #inspect-status .line {{ scroll-margin: .75rem 0 5rem; }}
}}
.ovs-stale-segment #result img, .ovs-stale-compare .ovs-panels img,
.ovs-stale-inspect #hover [data-answer], .ovs-stale-inspect .ovs-view img
  {{ opacity: .3 !important; filter: grayscale(.7); }}
.ovs-stale-segment #segment-status::after, .ovs-stale-compare #compare-status::after,
.ovs-stale-inspect #inspect-status::after {{ content: "{STALE}"; display: block; font-size: .875rem;
  margin-top: .35rem; padding: .4rem .75rem; border-left: 4px solid #b45309; }}
#ovs-read-out {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }}
#ovs-say {{ position: fixed; left: 50%; top: 1rem; transform: translateX(-50%); max-width: min(36rem, 92vw);
  z-index: 1000; padding: .7rem 1rem; border-radius: 6px; background: #1e293b; color: #fff;
  font: .95rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }}
"""


def page_head() -> str:
    """Give what stands in the head of the page: the outermost style, and the script."""
    return f"<style>{_OUTER_STYLE}</style><script>{SCRIPT.read_text(encoding='utf-8')}</script>"


_SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def page_theme() -> gr.themes.Base:
    """Give the calm theme of the page: one accent colour, white cards, fonts of the system."""
    theme = gr.themes.Soft(
        primary_hue=colors.indigo,
        secondary_hue=colors.indigo,
        neutral_hue=colors.slate,
        radius_size=sizes.radius_md,
        font=[fonts.Font(name) for name in _SYSTEM],
        font_mono=[fonts.Font(name) for name in _SYSTEM_MONO],
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_shadow="none",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_700",
        block_label_background_fill="white",
        block_label_background_fill_dark="*neutral_800",
        block_label_text_color_dark="*neutral_200",
        block_label_text_weight="500",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*primary_900",
        checkbox_label_text_color_selected="*primary_900",
        checkbox_label_text_color_selected_dark="*primary_50",
        checkbox_label_border_color_selected="*primary_300",
        checkbox_border_color="*neutral_400",
        checkbox_label_border_width="1px",
        checkbox_label_border_color="*neutral_200",
        checkbox_label_shadow="none",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        input_shadow="none",
        button_border_width="1px",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_hover_dark="*primary_200",
        link_text_color_visited_dark="*primary_300",
        link_text_color_active_dark="*primary_200",
        button_large_text_size="*text_md",
        button_large_padding="*spacing_md calc(2 * *spacing_lg)",
        block_label_text_color="*neutral_600",
        block_label_text_size="*text_sm",
        block_title_text_color="*neutral_700",
        block_title_background_fill="transparent",
        block_title_padding="0",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        button_primary_shadow="none",
        button_secondary_shadow="none",
    )
