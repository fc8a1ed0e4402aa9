"""What a network makes of a few validation frames, as pictures: skeletons over crops, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from d3ke.arrays import FloatArray, ImageArray, IntArray
from d3ke.losses import Target
from d3ke.networks.prediction import Estimate, PredictionHead
from d3ke.skeleton import PredictedSet
from d3ke_platform.evaluation.pictures import mosaic
from d3ke_platform.evaluation.plotting import COLORS, jpeg_of, legend, panels, pixels, title
from d3ke_platform.schema import CROPS, LABELS
from d3ke_platform.stages.overlay import Bones, draw_bones
from d3ke_platform.storage import DataSet, read_rows, write_bytes
from d3ke_platform.training.samples import Samples

CROP_COUNT = 8
"""Crops in the picture of skeletons."""
_COLUMNS = 4
_TILE = 256
_CURVES = 6
_LABEL = (90, 225, 120)
_NEAREST_M = 0.2
"""Points nearer to the camera than this are not drawn."""
_STYLES = {"label": (COLORS["label"], 2.2), "per-frame": (COLORS["per_frame"], 1.0)}
_LAST = (COLORS["sequence"], 1.6)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where samples stand: what is needed to draw an estimate over its crop."""

    rows: IntArray
    """[k] samples."""
    pelvis: FloatArray
    """[k,3] m, labelled place of the pelvis in the crop's camera."""


def choose_places(data: DataSet, samples: Samples, count: int = CROP_COUNT) -> Place:
    """Samples spread over the recordings and over time, with the places of their pelvises."""
    recordings = np.unique(samples.recording)
    chosen = recordings[
        np.linspace(0, len(recordings) - 1, min(count, len(recordings))).astype(int)
    ]
    rows, pelvis = [], []
    for number in range(count):
        recording = int(chosen[number % len(chosen)])
        own = np.flatnonzero(samples.recording == recording)
        # Never the first or last frame: people stand still there.
        rows.append(int(own[(2 * number + 1) * len(own) // (2 * count)]))
        pelvis.append(_pelvis(data, samples, rows[-1]))
    return Place(rows=np.array(rows), pelvis=np.array(pelvis))


def _pelvis(data: DataSet, samples: Samples, row: int) -> FloatArray:
    recording = samples.recording_ids[samples.recording[row]]
    columns = ["trial_id", "trial_frame", "crop_rotation", "crop_translation"]
    at = samples.row[row : row + 1]
    crop = CROPS.to_numpy(read_rows(data.crop_uri(recording), columns, at), columns)
    uri = data.label_uri(str(crop["trial_id"][0]))
    label = LABELS.to_numpy(
        read_rows(uri, ["root_position"], crop["trial_frame"]), ["root_position"]
    )
    return crop["crop_rotation"][0] @ label["root_position"][0] + crop["crop_translation"][0]


def skeleton_picture(
    images: ImageArray,
    intrinsics: FloatArray,
    pelvis: FloatArray,
    head: PredictionHead,
    estimate: Estimate,
    target: Target,
    landmarks: Sequence[str],
) -> ImageArray:
    """Crops [k,3,H,W] side by side with the estimated skeleton in colours and the labelled one in
    green, both at the labelled pelvis; `intrinsics` [k,3,3] px of the crops, `pelvis` [k,3] m."""
    bones = Bones.of_skeleton(head.skeleton, landmarks)
    truth = Estimate(target.coordinates, target.root_rotation, target.factors)
    found, labelled = (_points(head, one) + pelvis[:, None] for one in (estimate, truth))
    tiles = []
    for image, camera, *points in zip(images, intrinsics, labelled, found, strict=True):
        stored = image.shape[-1]
        tile = cv2.resize(
            np.ascontiguousarray(image.transpose(1, 2, 0)),
            (_TILE, _TILE),
            interpolation=cv2.INTER_AREA if stored > _TILE else cv2.INTER_CUBIC,
        )
        for skeleton, color in zip(points, (_LABEL, None), strict=True):
            flat = (_projected(camera, skeleton) + 0.5) * (_TILE / stored) - 0.5
            draw_bones(tile, flat, bones, 0.5 if color else 0.7, color)
        tiles.append(tile)
    return mosaic(tiles, columns=_COLUMNS)


@torch.no_grad()
def _points(head: PredictionHead, estimate: Estimate) -> FloatArray:
    """[k,J+M,3] m, relative to the pelvis."""
    pose = head.pose(Estimate(*(values.float() for values in estimate)))
    return torch.cat([pose.joint_centers, pose.markers], dim=1).cpu().numpy()


def _projected(intrinsics: FloatArray, points: FloatArray) -> FloatArray:
    """Pixels [n,2] of points [n,3] in the camera's axes; NaN for those not before it."""
    pixels_of = points @ intrinsics.T
    depth = np.where(points[:, 2:] > _NEAREST_M, pixels_of[:, 2:], np.nan)
    return pixels_of[:, :2] / depth


def curve_picture(
    predicted: PredictedSet,
    time_s: FloatArray,
    angles: Mapping[str, FloatArray],
    name: str,
) -> ImageArray:
    """Angles over time of the coordinates that move most.

    Args:
        predicted: what the columns of the angles are.
        time_s: [T] s.
        angles: "label" (NaN where there is none) and estimates by name, each [T,P] rad.
        name: of the recording.
    """
    columns = _moving(predicted, angles["label"])
    rows = -(-len(columns) // 2)
    figure, axes = panels(rows, 2, width=10, height=2.1 * rows)
    for axis in axes.flat[len(columns) :]:
        axis.set_visible(False)
    for axis, column in zip(axes.flat, columns, strict=False):
        for method, values in angles.items():
            color, width = _STYLES.get(method, _LAST)
            axis.plot(
                time_s, np.degrees(values[:, column]), color=color, linewidth=width, label=method
            )
        title(axis, predicted.coordinates[column])
        axis.set_ylabel("angle [°]")
    for axis in axes[-1]:
        axis.set_xlabel("time [s]")
    legend(axes.flat[0])
    figure.suptitle(name, fontsize=9)
    return pixels(figure)


def _moving(predicted: PredictedSet, labels: FloatArray) -> list[int]:
    known = np.where(np.isfinite(labels), labels, np.nanmean(labels))
    spread = np.ptp(known, axis=0)
    main = [predicted.coordinates.index(n) for n in predicted.groups.get("main", ())]
    candidates = main or list(range(len(predicted.coordinates)))
    return sorted(candidates, key=lambda column: -spread[column])[:_CURVES]


def write_picture(folder: Path, name: str, image: ImageArray) -> str:
    """Write `folder`/`name`.jpg; returns its path."""
    path = folder / f"{name}.jpg"
    write_bytes(path, jpeg_of(image, quality=90))
    return str(path)
