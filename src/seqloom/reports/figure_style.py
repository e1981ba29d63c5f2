"""The style of figures: palette, markers, and SVG that suits light and dark pages."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.core.files import atomic_file

# The colours and shapes of the report; the nearest pair stays apart under all colour blindness.
COLOURS = (
    "#0b62c4",
    "#b8500b",
    "#008d61",
    "#6a196b",
    "#8f1d2f",
    "#859a47",
    "#239dce",
    "#5b6470",
)
MARKERS = ("o", "s", "D", "v", "P", "p", "X", "^")
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++", "oo")
INK = "#17191c"  # text and axes; becomes the page's own colour inside HTML

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.color": INK,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Figure:
    """A drawn figure and its data."""

    name: str
    """File name without extension."""
    title: str
    caption: str
    svg: str
    """SVG with INK for text and axes, on a transparent background."""
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def inline(self) -> str:
        """Returns SVG for use inside HTML: with the page's colours, and ids prefixed by the name."""
        svg = self.svg[self.svg.index("<svg") :].replace(INK, "currentColor")
        for slot, colour in enumerate(COLOURS, start=1):
            svg = svg.replace(colour, f"var(--s{slot})")
        svg = svg.replace("<svg ", '<svg role="img" ', 1)
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = re.sub(r'\bid="', f'id="{self.name}-', svg)
        svg = svg.replace("url(#", f"url(#{self.name}-")
        svg = svg.replace('xlink:href="#', f'href="#{self.name}-')
        svg = re.sub(r' width="[^"]+pt" height="[^"]+pt"| height="[^"]+pt"', "", svg, count=1)
        return re.sub(r' width="[^"]+pt"', "", svg, count=1)

    def save(self, folder: Path) -> None:
        """Writes `<name>.svg` (on white) and `<name>.csv` with the data."""
        with atomic_file(folder / f"{self.name}.svg") as work:
            svg = self.svg.replace("<svg ", '<svg style="background: #ffffff" ', 1)
            work.write_text(svg, encoding="utf-8")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        with atomic_file(folder / f"{self.name}.csv") as work:
            work.write_text(text.getvalue(), encoding="utf-8")


class Canvas:
    """Axes in the common style, for `with Canvas(...) as canvas`. Imports matplotlib when entered."""

    def __init__(self, rows: int, columns: int, width: float, height: float, **options: Any):
        self._shape, self._size, self._options = (rows, columns), (width, height), options

    def __enter__(self) -> Canvas:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure as Drawing

        self._context = matplotlib.rc_context(_STYLE)
        self._context.__enter__()
        self.drawing = Drawing(figsize=self._size, layout="constrained")
        FigureCanvasSVG(self.drawing)
        self.axes = self.drawing.subplots(*self._shape, squeeze=False, **self._options)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._context.__exit__(*raised)

    def legend(self, axis: Any, entries: int) -> None:
        """Adds one legend for the whole figure, above it."""
        handles, labels = axis.get_legend_handles_labels()
        if handles:
            columns = min(entries, 4)
            self.drawing.legend(handles, labels, loc="outside upper center", ncols=columns)

    def svg(self, name: str) -> str:
        """Returns the drawing as SVG; equal drawings give equal text."""
        import matplotlib

        matplotlib.rcParams["svg.hashsalt"] = name
        text = io.StringIO()
        self.drawing.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        return text.getvalue()


def escape_dollars(text: str) -> str:
    """Escapes `$`, which would start a formula in matplotlib."""
    return text.replace("$", r"\$")
