"""Decoded pictures as people see them: turned upright, and without the combs of interlacing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from d3ke.arrays import ImageArray

Orientation = tuple[int, bool]
"""Quarter turns counterclockwise that show a picture upright, and whether to mirror it before."""


def upright(image: np.ndarray, orientation: Orientation) -> np.ndarray:
    """A stored picture [H,W,...] mirrored left to right, if so, then turned."""
    quarters, mirrored = orientation
    return np.rot90(image[:, ::-1] if mirrored else image, k=quarters)


def orientation(matrix: np.ndarray | None, tags: Mapping[str, str]) -> Orientation:
    """How a decoded frame has to be turned, from its display matrix and its stream's tags.

    The matrix counts; the tag "rotate" (degrees clockwise) is what older files have in its place,
    and some carry both, which mean the same turn.
    """
    if matrix is not None:
        return _from_matrix(matrix)
    tag = next((value for key, value in tags.items() if key.lower() == "rotate"), "0")
    try:
        return round(-float(tag) / 90) % 4, False
    except (ValueError, OverflowError):
        return 0, False


def display_matrix(frame: Any) -> np.ndarray | None:
    """The display matrix of a decoded frame, int32 [3,3] in 16.16 fixed point, if it has one."""
    from av.sidedata.sidedata import SideDataContainer, Type

    # frame.side_data would be kept by the frame and keep the frame: such circles pile up frames.
    container: Any = SideDataContainer
    data = container(frame).get(Type.DISPLAYMATRIX)
    if data is None or data.buffer_size < 36:
        return None
    return np.frombuffer(bytes(data), np.int32, 9).reshape(3, 3)


def _from_matrix(matrix: np.ndarray) -> Orientation:
    """Orientation of a display matrix: x' = a x + c y, y' = b x + d y, rows (a b .), (c d .)."""
    (a, b), (c, d) = np.asarray(matrix[:2, :2], float)
    mirrored = a * d - b * c < 0
    if mirrored:  # the stored picture is mirrored first: x becomes -x
        a, b = -a, -b
    if a == b == 0:
        return 0, False
    # Downward y: a turn by +90 degrees counterclockwise takes the x axis to -y.
    return round(np.degrees(np.arctan2(-b, a)) / 90) % 4, bool(mirrored)


def rgb(frame: Any) -> ImageArray:
    """Picture of a frame, uint8 [H,W,3], as stored; 10-bit and other formats are converted."""
    # One thread: there is a process for every core, and its memory limit counts their stacks.
    return np.asarray(frame.to_ndarray(format="rgb24", threads=1))


def progressive(frames: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Pairs of a label and a decoded frame, the same without the combs of interlacing.

    The first field's lines are kept and the others interpolated along edges (FFmpeg's estdif):
    one picture a frame, from this frame alone, so that a part of a video has the pictures of the
    whole. Frames that are not marked as interlaced pass unchanged.
    """
    graph: Any = None
    labels: deque[Any] = deque()
    for label, frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield label, frame
            continue
        graph = graph or _graph(frame)
        labels.append(label)
        graph.vpush(frame)
        yield from _ready(graph, labels)
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph, labels)


def _graph(frame: Any) -> Any:
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    filtered = graph.add("estdif", "mode=frame:parity=auto:deint=interlaced")
    graph.link_nodes(source, filtered, graph.add("buffersink")).configure()
    return graph


def _ready(graph: Any, labels: deque[Any]) -> Iterator[tuple[Any, Any]]:
    """What the filter gives back; it holds one frame until the next one comes."""
    import av

    while True:
        try:
            filtered = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield labels.popleft(), filtered
