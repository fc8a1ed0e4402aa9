"""Scored videos on the report page: stills of the overlay, and knee angles of every view."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from d3ke.arrays import ImageArray
from d3ke.errors import InvalidInputError
from d3ke.skeleton import Skeleton
from d3ke_platform.evaluation.pictures import mosaic
from d3ke_platform.evaluation.plotting import (
    Picture,
    data_uri,
    jpeg_of,
    legend,
    panels,
    picture,
    series_color,
    title,
)
from d3ke_platform.schema import RESULTS
from d3ke_platform.stages.export import EXPORTS
from d3ke_platform.stages.scores_folder import (
    exports_uri,
    latest_run,
    read_scored,
    results_uri,
)
from d3ke_platform.storage import join, list_files, read_table

_STILL_HEIGHT = 360
_SHOWN = ("knee_angle_r", "knee_angle_l", "hip_flexion_r", "elbow_flexion")
_MOST = 6


def real_video_pictures(scores: str, skeleton: Skeleton) -> list[Picture]:
    """Pictures of the first recordings of SCORES' latest run; none when nothing was scored."""
    scores = latest_run(scores)
    results = list_files(join(scores, "results"), ".parquet")[:_MOST]
    names = [Path(file).stem for file in results]
    pictures = [_stills(scores, names), _curves(scores, names, skeleton)] if results else []
    return [shown for shown in pictures if shown is not None]


def _stills(scores: str, names: Sequence[str]) -> Picture | None:
    tiles = []
    for name in names:
        video = Path(exports_uri(scores, name)) / EXPORTS["overlay"]
        if video.exists():
            still = middle_frame(video)
            width = round(still.shape[1] * _STILL_HEIGHT / still.shape[0])
            tiles.append(cv2.resize(still, (width, _STILL_HEIGHT), interpolation=cv2.INTER_AREA))
    if not tiles:
        return None
    widest = max(tile.shape[1] for tile in tiles)
    tiles = [_pad(tile, widest) for tile in tiles]
    return Picture(
        title="Overlay on real video",
        caption="The middle frame of every view with the estimated model drawn over it. One camera "
        "gives no distance: the model is placed so that it fills the person's box.",
        data_uri=data_uri(jpeg_of(mosaic(tiles, columns=4)), "jpeg"),
    )


def view_name(scores: str, recording_id: str) -> str:
    """Name of the video a recording was scored from, which is shorter than its id."""
    scored = read_scored(scores, recording_id)
    return Path(scored.uri).stem if scored else recording_id


def middle_frame(video: Path) -> ImageArray:
    """The middle frame [H,W,3] RGB; raises InvalidInputError for a video without frames."""
    import av

    with av.open(str(video)) as container:
        frames = [index for index, _ in enumerate(container.decode(video=0))]
        container.seek(0)
        for index, frame in enumerate(container.decode(video=0)):
            if index == len(frames) // 2:
                return frame.to_ndarray(format="rgb24")
    raise InvalidInputError(str(video), "has no frames")


def _curves(scores: str, names: Sequence[str], skeleton: Skeleton) -> Picture | None:
    shown = [name for name in _SHOWN if name in skeleton.coordinates]
    if not shown:
        return None
    figure, axes = panels(-(-len(shown) // 2), 2, width=10, height=4.6)
    for number, name in enumerate(names):
        wanted = ["person", "time_s", "coordinates"]
        rows = RESULTS.to_numpy(read_table(results_uri(scores, name), wanted), wanted)
        person = rows["person"] == rows["person"].min(initial=0)
        for axis, coordinate in zip(axes.flat, shown, strict=False):
            index = skeleton.coordinates.index(coordinate)
            angle = np.degrees(rows["coordinates"][person, index])
            label = view_name(scores, name)
            axis.plot(rows["time_s"][person], angle, color=series_color(number), label=label)
    for axis, coordinate in zip(axes.flat, shown, strict=False):
        title(axis, coordinate)
        axis.set(ylabel="angle [°]", xlabel="time [s]")
    legend(axes.flat[0])
    return picture(
        figure,
        heading="Angles in real video",
        caption="Every line is one view of the same recording, each scored from its own camera "
        "alone: how far the lines lie apart shows how much the estimate depends on the view.",
    )


def _pad(image: ImageArray, width: int) -> ImageArray:
    missing = width - image.shape[1]
    return cv2.copyMakeBorder(
        image, 0, 0, missing // 2, missing - missing // 2, cv2.BORDER_CONSTANT, value=(255,) * 3
    )
