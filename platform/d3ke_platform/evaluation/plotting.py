"""How figures look, and how they get into the page. No global Matplotlib state is touched."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from d3ke.arrays import ImageArray

COLORS = {
    "label": "#20242a",
    "mean_angle": "#a7adb5",
    "per_frame": "#d98324",
    "sequence": "#1f6fb2",
}
"""Label and methods; told apart by colour-blind readers too (light grey, orange, blue)."""
_SERIES = ("#1f6fb2", "#d98324", "#3a8f5c", "#8d5aa5", "#b5493b", "#5b6570")

_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9099",
    "axes.labelcolor": "#3a4048",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.7,
    "xtick.color": "#5b6570",
    "ytick.color": "#5b6570",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image of the page with what it shows."""

    title: str
    caption: str
    data_uri: str
    """data:image/...;base64,..."""


def series_color(index: int) -> str:
    """Colour of the n-th series where methods are not what differs."""
    return _SERIES[index % len(_SERIES)]


def panels(
    rows: int, columns: int, *, width: float, height: float, **options: Any
) -> tuple[Figure, Any]:
    """A figure with an array of axes [rows, columns]; sizes in inches."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def title(axis: Any, text: str) -> None:
    """Name one panel."""
    axis.set_title(text, loc="left", fontsize=9.5, fontweight="bold", color="#20242a")


def legend(axis: Any, **options: Any) -> None:
    """Explain the lines of a panel, without a frame."""
    axis.legend(fontsize=8, frameon=False, **options)


def picture(
    figure: Figure,
    *,
    heading: str,
    caption: str,
    dpi: int = 120,
    kind: Literal["png", "jpeg"] = "png",
) -> Picture:
    """The figure as a picture: JPEG where photographs are in it, which are large as PNG."""
    sink = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(sink, format=kind, dpi=dpi)
    return Picture(title=heading, caption=caption, data_uri=data_uri(sink.getvalue(), kind))


def pixels(figure: Figure, *, dpi: int = 100) -> ImageArray:
    """The figure as an RGB image, uint8 [H,W,3]."""
    sink = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(sink, format="rgba", dpi=dpi)
    width, height = (round(side * dpi) for side in figure.get_size_inches())
    rgba = np.frombuffer(sink.getvalue(), np.uint8).reshape(height, width, 4)
    return rgba[..., :3].copy()


def data_uri(content: bytes, kind: str) -> str:
    """Image bytes as a URI that a page can embed."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def jpeg_of(image: ImageArray, quality: int = 85) -> bytes:
    """JPEG of an RGB image: for photographs, which are large as PNG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
