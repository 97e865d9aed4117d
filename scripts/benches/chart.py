"""A chart of ratios: a bar for each median, a line for its spread, and where the goal is. SVG, so that a page can show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

ROW, BAR, LABEL, WIDTH, RIGHT = 26, 9, 150, 640, 60
COLOURS = ("#4269d0", "#efb118", "#6cc5b0")


@dataclass(frozen=True)
class Ratio:
    """What was measured in several runs."""

    least: float
    median: float
    most: float


def chart(title: str, names: Sequence[str], rows: Sequence[tuple[str, Sequence[Ratio]]]) -> str:
    """Return an SVG picture.

    Args:
        title: of the chart.
        names: of what each row shows, at most three.
        rows: label and a ratio for each name.
    """
    row_height = ROW + BAR * (len(names) - 1)
    height = 60 + row_height * len(rows)
    most = max([1.1, *(ratio.most for _, ratios in rows for ratio in ratios)])
    scale = (WIDTH - LABEL - RIGHT) / most

    def x(value: float) -> str:
        return f"{LABEL + value * scale:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, name in enumerate(names):
        left = LABEL + 130 * number
        parts.append(f'<rect x="{left}" y="28" width="9" height="9" fill="{COLOURS[number]}"/>')
        parts.append(f'<text x="{left + 14}" y="37">{escape(name)}</text>')
    for row, (label, ratios) in enumerate(rows):
        top = 48 + row * row_height
        parts.append(f'<text x="8" y="{top + 10}">{escape(label)}</text>')
        for number, ratio in enumerate(ratios):
            y = top + number * BAR
            middle = y + BAR / 2 - 1
            parts.append(
                f'<rect x="{LABEL}" y="{y}" width="{ratio.median * scale:.1f}" height="{BAR - 2}" fill="{COLOURS[number]}"/>'
                f'<path d="M{x(ratio.least)} {middle}H{x(ratio.most)}" stroke="black"/>'
                f'<text x="{LABEL + ratio.most * scale + 4:.1f}" y="{y + BAR - 1}" font-size="9">{ratio.median:.2f}</text>'
            )
    parts.append(f'<path d="M{x(1.0)} 44V{height - 8}" stroke="black" stroke-dasharray="3 3"/></svg>')
    return "\n".join(parts) + "\n"
