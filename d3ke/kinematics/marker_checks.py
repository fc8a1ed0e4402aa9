"""Marker files that cannot be right: other names, units or axes than the model's, gaps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError
from d3ke.kinematics.rigid_fit import fit_rigid
from d3ke.kinematics.trc import MarkerTrajectories
from d3ke.skeleton import SkeletalModelLayer, Skeleton

_SIMILAR = 0.8
"""Share of equal letters from which two names count as near misses."""
_FEWEST = 3
"""Markers without which nothing can be placed."""
_SIZES = (0.35, 2.5)
"""Person over model, from a small child on an adult's model to the reverse."""
_FACTORS = {
    1e3: "mm read as m",
    1e2: "cm read as m",
    1e1: "mm read as cm",
    1e-1: "cm read as mm",
    1e-2: "m read as cm",
    1e-3: "m read as mm",
}
_CLEAR = 0.75
"""Cosine to an axis from which a trunk points along it (41 degrees)."""
_MIRRORED = 0.7
"""Misfit of the mirror image over that of the markers, below which they are mirrored."""
_SAMPLES = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelMarkers:
    """A model's markers in its default pose, where it stands upright in ground (y up)."""

    names: tuple[str, ...]
    positions: FloatArray
    """[M, 3] m."""
    trunk: BoolArray
    """[M] on the root body or between it and the body that reaches highest."""

    @classmethod
    def of(cls, skeleton: Skeleton) -> ModelMarkers:
        """Those of a skeleton as loaded."""
        import torch

        layer = SkeletalModelLayer(skeleton)
        with torch.no_grad():
            pose = layer(
                torch.from_numpy(skeleton.coordinate_defaults.copy())[None],
                torch.ones(1, len(skeleton.bodies), 3, dtype=torch.float64),
            )
        positions = pose.markers[0].numpy()
        if not len(positions):
            raise InvalidInputError(f"model {skeleton.name!r}", "it has no markers")
        highest = int(skeleton.marker_bodies[positions[:, 1].argmax()])
        parents = dict(zip(skeleton.joint_children, skeleton.joint_parents, strict=True))
        chain = [highest]
        while parents.get(chain[-1], -1) >= 0:
            chain.append(int(parents[chain[-1]]))
        trunk = np.isin(skeleton.marker_bodies, chain)
        return cls(names=skeleton.markers, positions=positions, trunk=trunk)

    def common(
        self, measured: MarkerTrajectories, *, trunk: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """[K, 3] model's and [T, K, 3] measured positions of the same markers, m."""
        index = [
            i
            for i, name in enumerate(self.names)
            if name in measured.names and (self.trunk[i] or not trunk)
        ]
        names = [self.names[i] for i in index]
        return self.positions[index], measured.reordered(names).positions


def zeros_as_gaps(measured: MarkerTrajectories) -> MarkerTrajectories:
    """Markers exactly at the origin were not measured: many programs write 0 0 0 for a gap."""
    at_origin = (measured.positions == 0.0).all(-1, keepdims=True)
    return MarkerTrajectories(
        names=measured.names,
        positions=np.where(at_origin, np.nan, measured.positions),
        times=measured.times,
        rate_hz=measured.rate_hz,
    )


def near_misses(measured: Iterable[str], model: Iterable[str]) -> dict[str, str]:
    """Measured name -> the model's name that it nearly is, among those without a counterpart.

    Names are near that differ in case and punctuation alone, or in a few letters; never those of
    different sides or numbers (R.Knee and L.Knee, TH1 and TH2).
    """
    measured, model = list(measured), list(model)
    unknown = [name for name in measured if name not in model]
    absent = [name for name in model if name not in measured]
    likeness = sorted(
        ((_likeness(a, b), a, b) for a in unknown for b in absent), key=lambda row: -row[0]
    )
    found: dict[str, str] = {}
    for value, name, wanted in likeness:
        if value >= _SIMILAR and name not in found and wanted not in found.values():
            found[name] = wanted
    return {name: found[name] for name in unknown if name in found}


def _likeness(first: str, second: str) -> float:
    """1 for names that differ in case and punctuation alone, 0 for other sides or numbers."""
    a, b = (re.sub(r"[^a-z0-9]", "", name.rsplit(":", 1)[-1].lower()) for name in (first, second))
    if a == b:
        return 1.0
    if re.findall(r"\d+", a) != re.findall(r"\d+", b) or (_side(a) and _side(a) != _side(b)):
        return 0.0
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _side(name: str) -> str:
    return name[0] if name[:1] in ("l", "r") else ""


def check_names(
    what: str, measured: Sequence[str], model: Sequence[str], *, fewest: int = _FEWEST
) -> None:
    """Refuses marker names that do not match the model's.

    Names of only one side are fine: a trial may lack markers, a file may hold more.

    Raises:
        InvalidInputError: a name nearly is one that the model has and the file lacks (all near
            misses are listed), or fewer than `fewest` names match.
    """
    near = near_misses(measured, model)
    matching = [name for name in measured if name in model]
    listed = ", ".join(f"{name!r} (model: {wanted!r})" for name, wanted in near.items())
    if near:
        raise InvalidInputError(
            what,
            f"names markers that the model lacks but nearly has: {listed}",
            "Rename them, or state which is which (marker_names) or none (ignored_markers).",
        )
    if len(matching) < fewest:
        reason = f"{len(matching)} of its markers are on the model. File: {_few(measured)}"
        raise InvalidInputError(what, f"{reason}; model: {_few(model)}", "State the names.")


def _few(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") if names else "none"


def check_size(what: str, measured: MarkerTrajectories, model: ModelMarkers) -> None:
    """Refuses markers that are no person's size: a wrong unit.

    Raises InvalidInputError naming the factor.
    """
    ratio = size_ratio(measured, model)
    low, high = _SIZES
    if np.isnan(ratio) or low <= ratio <= high:
        return
    reason = f"its markers lie {ratio:.3g} times as far apart as the model's"
    for factor, mistake in _FACTORS.items():
        if low <= ratio / factor <= high:
            raise InvalidInputError(
                what, f"{reason}: {mistake}, a factor of {factor:g}", "State its unit (units)."
            )
    raise InvalidInputError(what, reason, "Check its unit, and whether the names fit the markers.")


def size_ratio(measured: MarkerTrajectories, model: ModelMarkers) -> float:
    """Spread of the markers about their centre over that of the same markers on the model: the
    median over frames; NaN without three common markers."""
    expected, points = model.common(measured)
    ratios = []
    for frame in _sampled(points):
        seen = np.isfinite(frame).all(-1)
        if seen.sum() >= _FEWEST:
            ratios.append(_spread(frame[seen]) / max(_spread(expected[seen]), 1e-6))
    return float(np.median(ratios)) if ratios else float("nan")


def _spread(points: FloatArray) -> float:
    return float(np.sqrt(np.square(points - points.mean(axis=0)).sum(-1).mean()))


def _sampled(points: FloatArray) -> FloatArray:
    chosen = np.linspace(0, len(points) - 1, min(len(points), _SAMPLES)).astype(int)
    return points[chosen]


def trunk_direction(measured: MarkerTrajectories, model: ModelMarkers) -> FloatArray:
    """[3] where the trunk points from pelvis to head, in the file's axes: the mean over frames.

    Its length is 1 where it always points the same way; NaN where three trunk markers (or, without
    them, any three) are never seen together.
    """
    for trunk in (True, False):
        expected, points = model.common(measured, trunk=trunk)
        found = []
        for frame in _sampled(points):
            seen = np.isfinite(frame).all(-1)
            if seen.sum() >= _FEWEST and _is_spatial(expected[seen]):
                rotation, _ = fit_rigid(expected[seen], frame[seen])
                found.append(rotation[:, 1])
        if found:
            return np.asarray(np.mean(found, axis=0))
    return np.full(3, np.nan)


def _is_spatial(points: FloatArray) -> bool:
    """Whether the points span a plane at least."""
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(values[1] > 0.05 * max(values[0], 1e-9))


def find_up(measured: MarkerTrajectories, model: ModelMarkers) -> str:
    """The file's axis along which the trunk points (`axes.UP_AXES`); "" where it is unclear."""
    direction = trunk_direction(measured, model)
    if not np.isfinite(direction).all():
        return ""
    axis = int(np.abs(direction).argmax())
    if abs(direction[axis]) < _CLEAR:
        return ""
    return ("-" if direction[axis] < 0 else "") + "xyz"[axis]


def check_up(what: str, measured: MarkerTrajectories, model: ModelMarkers) -> None:
    """Refuses markers whose trunk stands along another axis than y, or that are mirrored.

    Raises InvalidInputError naming the axis.
    """
    up = find_up(measured, model)
    if up not in ("", "y"):
        raise InvalidInputError(
            what,
            f"the trunk points along {up} where gravity acts along y: its {up} axis is up",
            f"State its axis (up_axis={up!r}), or 'y' if the person really lies.",
        )
    if is_mirrored(measured, model):
        raise InvalidInputError(
            what,
            "its axes are left-handed: the markers fit the model's mirror image",
            "Export it again, with two axes swapped or one axis turned round.",
        )


def is_mirrored(measured: MarkerTrajectories, model: ModelMarkers) -> bool:
    """Whether the mirror image of the markers fits the model far better than the markers.

    Told by the trunk's markers, or by all where those of the trunk lie in a plane, which is its
    own mirror image.
    """
    for trunk in (True, False):
        expected, points = model.common(measured, trunk=trunk)
        direct, mirrored = [], []
        for frame in _sampled(points):
            seen = np.isfinite(frame).all(-1)
            if seen.sum() > _FEWEST:
                direct.append(_misfit(expected[seen], frame[seen]))
                mirrored.append(_misfit(expected[seen], frame[seen] * [1.0, 1.0, -1.0]))
        if direct:
            as_is, turned = float(np.median(direct)), float(np.median(mirrored))
            if abs(as_is - turned) > 0.1 * max(as_is, turned):
                return turned < _MIRRORED * as_is
    return False


def _misfit(expected: FloatArray, points: FloatArray) -> float:
    """m, RMS after the best rigid motion; sizes made equal."""
    points = points * (_spread(expected) / max(_spread(points), 1e-9))
    rotation, shift = fit_rigid(expected, points)
    return float(np.sqrt(np.square(expected @ rotation.T + shift - points).sum(-1).mean()))


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What a marker lacks."""

    marker: str
    share: float
    """Of the frames."""
    longest_s: float
    """Its longest gap."""


def gaps(measured: MarkerTrajectories) -> tuple[Gap, ...]:
    """The markers with gaps, the worst first."""
    missing = np.asarray(~np.isfinite(measured.positions).all(-1))
    found = []
    for name, column in zip(measured.names, missing.T, strict=True):
        if column.any():
            edges = np.flatnonzero(np.diff(np.concatenate([[0], column.astype(int), [0]])))
            longest = int((edges[1::2] - edges[::2]).max()) / measured.rate_hz
            found.append(Gap(marker=name, share=float(column.mean()), longest_s=longest))
    return tuple(sorted(found, key=lambda gap: (-gap.share, gap.marker)))


def gap_report(measured: MarkerTrajectories, most: int = 8) -> str:
    """One line about the gaps; "" without any."""
    found = gaps(measured)
    parts = [f"{g.marker} {100 * g.share:.1f} % (longest {g.longest_s:.2f} s)" for g in found]
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if parts[most:] else "")


def check_gaps(what: str, measured: MarkerTrajectories, *, most: float) -> None:
    """Refuses a recording of which more than the share `most` is missing.

    Raises InvalidInputError with the gaps of every marker that has some.
    """
    share = float((~np.isfinite(measured.positions).all(-1)).mean())
    if share > most:
        raise InvalidInputError(
            what,
            f"{100 * share:.0f} % of its marker positions are missing (most: {100 * most:.0f} %): "
            f"{gap_report(measured)}",
        )
