"""How the series of a plot are told apart: by colour, by dash and by marker, so that no one is needed.

The colours are those of Okabe and Ito, which colour-blind people tell apart, the light ones darkened, and
two more: each has a contrast of at least 3 to a white and to a dark page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c05f95", "#a87900", "#7b68c8", "#3d93c4", "#7d7d7d")
DASHES = ("solid", "dash", "dot", "dashdot")
STROKES = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}
MARKERS = {
    "circle": "<circle cx='18' cy='8' r='4.5'/>",
    "square": "<rect x='14' y='4' width='8' height='8'/>",
    "diamond": "<path d='M18 2.5 23.5 8 18 13.5 12.5 8z'/>",
    "triangle-up": "<path d='M18 2.5 23.5 12.5 12.5 12.5z'/>",
    "triangle-down": "<path d='M18 13.5 23.5 3.5 12.5 3.5z'/>",
    "cross": "<path d='M16.3 3h3.4v3.3H23v3.4h-3.3V13h-3.4V9.7H13V6.3h3.3z'/>",
    "pentagon": "<path d='M18 2.5 23.5 6.6 21.4 13H14.6L12.5 6.6z'/>",
    "hourglass": "<path d='M13 3h10L13 13h10z'/>",
}
NEUTRAL = "#767b82"  # of the full model
CHOSEN = COLOURS[1]
PLAIN = COLOURS[0]


@dataclass(frozen=True)
class Style:
    """One series."""

    colour: str
    dash: str
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """As Plotly takes it."""
        return {"color": self.colour, "dash": self.dash, "width": 2}

    @property
    def point(self) -> dict[str, Any]:
        """As Plotly takes it."""
        return {"color": self.colour, "symbol": self.marker, "size": 8}

    @property
    def drawing(self) -> str:
        """For a legend: SVG of 36 by 16."""
        return f"{line_drawing(self.colour, self.dash)}<g fill='{self.colour}'>{MARKERS[self.marker]}</g>"


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A style for each label, in the order of first appearance."""
    markers = tuple(MARKERS)
    return {
        label: Style(
            COLOURS[i % len(COLOURS)],
            DASHES[(i + i // len(COLOURS)) % len(DASHES)],
            markers[i % len(markers)],
        )
        for i, label in enumerate(dict.fromkeys(labels))
    }


def line_drawing(colour: str, dash: str) -> str:
    """A line, for a legend."""
    return f"<path d='M1 8h34' stroke='{colour}' stroke-width='2' stroke-dasharray='{STROKES[dash]}'/>"


def block_drawing(colour: str) -> str:
    """A block, for a legend."""
    return f"<rect x='8' y='2' width='20' height='12' rx='2' fill='{colour}'/>"
