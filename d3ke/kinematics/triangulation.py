"""Triangulation of a person's landmarks from synchronised, calibrated views.

Confidence-weighted and robust: a linear start is refined on the reprojection errors under a loss
that lets far outliers go, and a view that disagrees with the others is left out for that point and
frame. Points keep at least two views, or are missing (NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from d3ke.camera import Camera, project
from d3ke.errors import InvalidInputError
from d3ke.kinematics.multiview_fit import (
    Views,
    depths,
    linear_points,
    observe,
    refine_points,
    reprojection,
    widest_angle,
)

_CHUNK = 20_000
"""Points solved at once: bounds the memory to some hundred MB with 16 cameras."""
_SMALLEST_ANGLE = np.deg2rad(3.0)
"""Between the rays of two cameras: below it a pixel is worth more than a twentieth of the distance
in depth."""


@dataclass(frozen=True, kw_only=True)
class TriangulationSettings:
    """When a view takes part, and when a point counts."""

    min_views: int = 2
    """A point seen by fewer cameras is missing."""
    confidence_threshold: float = 0.3
    """A view takes part where its confidence in the landmark is at least this, 0 to 1."""
    scale_px: float = 20.0
    """Errors well below count by their square, those well above hardly more than once, px."""
    outlier_px: float = 30.0
    """A view further off than this is left out if enough views remain, px."""
    max_error_px: float = 30.0
    """A point whose mean reprojection error stays above this is missing, px."""

    def __post_init__(self) -> None:
        if self.min_views < 2:
            raise InvalidInputError("min_views", f"{self.min_views} is below 2")
        if not 0.0 <= self.confidence_threshold <= 1.0:
            raise InvalidInputError(
                "confidence_threshold", f"{self.confidence_threshold} is not in 0 to 1"
            )
        for name in ("scale_px", "outlier_px", "max_error_px"):
            if not getattr(self, name) > 0.0:
                raise InvalidInputError(name, f"{getattr(self, name)} px is not positive")


@dataclass(frozen=True, kw_only=True, eq=False)
class Triangulation:
    """Points and how well the views agree on them; K points, V views."""

    points: Float[np.ndarray, "T K 3"]
    """m in ground; NaN where missing."""
    errors_px: Float[np.ndarray, "V T K"]
    """Distance of the projected point from where the view saw it, px; NaN for views that take no
    part and missing points."""
    used: Bool[np.ndarray, "V T K"]
    """Views that the point rests on."""

    @property
    def mean_error_px(self) -> float:
        """Mean reprojection error of all views that take part, px; NaN without any."""
        errors = self.errors_px[self.used]
        return float(errors.mean()) if errors.size else float("nan")


def triangulate(
    cameras: Sequence[Camera],
    pixels: Float[np.ndarray, "V T K 2"],
    confidence: Float[np.ndarray, "V T K"],
    settings: TriangulationSettings | None = None,
) -> Triangulation:
    """Triangulate K landmarks in T simultaneous frames of V cameras.

    Args:
        cameras: V calibrated cameras.
        pixels: where each view sees the landmarks, px; NaN = not seen.
        confidence: 0 to 1, the weight of each view.
        settings: thresholds.

    Raises:
        InvalidInputError: the numbers of cameras and views differ, or are below `min_views`.
    """
    settings = settings or TriangulationSettings()
    count = len(cameras)
    if count != len(pixels) or count < settings.min_views:
        raise InvalidInputError(
            "triangulation",
            f"{len(pixels)} views and {count} cameras given, {settings.min_views} of each needed",
        )
    frames, landmarks = pixels.shape[1:3]
    flat_pixels = pixels.reshape(count, -1, 2)
    weights = np.where(confidence >= settings.confidence_threshold, confidence, 0.0)
    views = observe(cameras, flat_pixels, weights.reshape(count, -1))
    points = np.full((frames * landmarks, 3), np.nan)
    used = np.zeros((count, frames * landmarks), dtype=bool)
    for start in range(0, len(points), _CHUNK):
        chosen = np.zeros(len(points), dtype=bool)
        chosen[start : start + _CHUNK] = True
        points[chosen], used[:, chosen] = _solve(views.select(chosen), settings)
    errors = np.stack(
        [
            np.linalg.norm(project(camera, points) - seen, axis=-1)
            for camera, seen in zip(cameras, flat_pixels, strict=True)
        ]
    )
    errors = np.where(used, errors, np.nan)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(errors, axis=0) / np.maximum(used.sum(axis=0), 1)
        missing = ~(used.any(axis=0) & (mean <= settings.max_error_px))
    points[missing], used[:, missing], errors[:, missing] = np.nan, False, np.nan
    shape = (count, frames, landmarks)
    return Triangulation(
        points=points.reshape(frames, landmarks, 3),
        errors_px=errors.reshape(shape),
        used=used.reshape(shape),
    )


def _solve(
    views: Views, settings: TriangulationSettings
) -> tuple[Float[np.ndarray, "N 3"], Bool[np.ndarray, "V N"]]:
    """Points and the views they rest on; NaN and none where they cannot be told."""
    points = _fit(views, settings)
    for _ in range(len(views.rotations) - settings.min_views):
        errors = _errors(views, points)
        spare = (views.weights > 0.0).sum(axis=0) > settings.min_views
        doubtful = spare & (errors.max(axis=0) > settings.outlier_px)
        if not doubtful.any():
            break
        weights, fitted = _without_worst(views.select(doubtful), settings)
        all_weights = views.weights.copy()
        all_weights[:, doubtful] = weights
        views = views.reweighted(all_weights)
        points[doubtful] = fitted
    used = views.weights > 0.0
    with np.errstate(invalid="ignore"):
        in_front = ((depths(views, points) > 0.0) | ~used).all(axis=0)
        wide = widest_angle(views, points) > _SMALLEST_ANGLE
    good = (used.sum(axis=0) >= settings.min_views) & in_front & wide
    points[~good] = np.nan
    return points, used & good


def _without_worst(
    views: Views, settings: TriangulationSettings
) -> tuple[Float[np.ndarray, "V N"], Float[np.ndarray, "N 3"]]:
    """Weights without the view whose absence lets the others agree best, and the new points.

    The largest error alone does not tell the culprit: with few views it spreads its error.
    """
    best = np.full(views.weights.shape[1], np.inf)
    weights, points = views.weights.copy(), np.full((views.weights.shape[1], 3), np.nan)
    for index in range(len(views.rotations)):
        fewer = views.weights.copy()
        fewer[index] = 0.0
        others = views.reweighted(fewer)
        fitted = _fit(others, settings)
        error = (_errors(others, fitted) * fewer).sum(axis=0) / np.maximum(fewer.sum(axis=0), 1e-12)
        with np.errstate(invalid="ignore"):
            better = (views.weights[index] > 0.0) & (error < best)
        best[better], points[better] = error[better], fitted[better]
        weights[:, better] = fewer[:, better]
    return weights, points


def _fit(views: Views, settings: TriangulationSettings) -> Float[np.ndarray, "N 3"]:
    return refine_points(views, linear_points(views), scale_px=settings.scale_px)


def _errors(views: Views, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "V N"]:
    return np.asarray(np.linalg.norm(reprojection(views, points), axis=-1))
