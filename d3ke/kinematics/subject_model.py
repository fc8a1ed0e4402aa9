"""A subject's model without a Scale setup: estimated from a static trial, or scaled already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import KinematicsError
from d3ke.kinematics.inverse_kinematics import inverse_kinematics
from d3ke.kinematics.marker_checks import ModelMarkers
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.model_scales import scales_between
from d3ke.kinematics.opensim_library import load_model
from d3ke.kinematics.rigid_fit import fit_rigid
from d3ke.kinematics.scale_by_setup import scale_by_setup
from d3ke.kinematics.scale_setup import (
    ManualScale,
    MarkerPlacerSetup,
    ModelScalerSetup,
    ScaleSetup,
)
from d3ke.kinematics.scaling import ScaledSubject, restore_markers, write_model
from d3ke.kinematics.solve_ik import solve_ik
from d3ke.kinematics.trc import MarkerTrajectories
from d3ke.skeleton import MeasurementSet, Skeleton

_FEWEST = 6
"""Markers in the static trial, below which factors of a body are guesses."""


def scale_by_estimate(
    *,
    model_path: str | Path,
    skeleton: Skeleton,
    marker_set: MarkerSet,
    measurements: MeasurementSet,
    static: MarkerTrajectories,
    mass_kg: float,
    output_path: str | Path,
    place_markers: bool = True,
) -> ScaledSubject:
    """Scales a model by the factors that fit a static trial best, together with its pose.

    `solve_ik` estimates the factors of `measurements`, whose marker pairs are not used; OpenSim's
    ScaleTool then scales the model by them and, if asked, places its markers.

    Args:
        model_path: the generic model with the set's markers.
        skeleton: the same, compiled.
        marker_set: weights of the static pose.
        measurements: which body axes share a factor.
        static: a still person; any pose the model can take, at any place and heading.
        mass_kg: mass of the person; not positive = as the model's segments sum up to.
        output_path: where the scaled model goes.
        place_markers: moves the markers that are not fixed onto the measured ones.

    Raises:
        KinematicsError: fewer than six weighted markers, a factor not plausible, OpenSim failed.
    """
    weights = np.asarray(marker_set.scaling_weights)
    measured = static.reordered(marker_set.names)
    seen = np.isfinite(measured.positions).all(-1).any(0) & (weights > 0.0)
    if seen.sum() < _FEWEST:
        reason = f"holds {seen.sum()} weighted markers of the model, {_FEWEST} are needed"
        raise KinematicsError("static trial", reason)
    found = solve_ik(
        skeleton,
        measured.positions,
        weights,
        marker_names=marker_set.names,
        estimate_scales=measurements,
    )
    assert found.scales is not None, "scales were asked for"
    scales = dict(zip(skeleton.bodies, found.scales, strict=True))
    placer = MarkerPlacerSetup(
        apply=place_markers,
        marker_weights=dict(zip(marker_set.names, map(float, weights), strict=True)),
    )
    return scale_by_setup(
        _setup_of(Path(model_path), scales, placer, mass_kg),
        static=_facing(skeleton, measured, seen),
        skeleton=skeleton,
        marker_set=marker_set,
        measurements=measurements,
        output_path=output_path,
    )


def _setup_of(
    model: Path, scales: Mapping[str, FloatArray], placer: MarkerPlacerSetup, mass_kg: float
) -> ScaleSetup:
    """A setup that scales every body by known factors [3]."""
    manual = tuple(
        ManualScale(body=body, factors=(float(x), float(y), float(z)))
        for body, (x, y, z) in scales.items()
    )
    return ScaleSetup(
        name="estimate",
        mass_kg=mass_kg if mass_kg > 0.0 else -1.0,
        model_file=model,
        scaler=ModelScalerSetup(
            order=("manualScale",),
            manual_scales=manual,
            preserve_mass_distribution=mass_kg > 0.0,
        ),
        placer=placer,
    )


def _facing(
    skeleton: Skeleton, measured: MarkerTrajectories, seen: BoolArray
) -> MarkerTrajectories:
    """The static trial without unseen markers, turned the way the model faces: the marker placer
    starts from the default pose and fails on a person facing elsewhere."""
    model = ModelMarkers.of(skeleton)
    names = tuple(name for name, kept in zip(measured.names, seen, strict=True) if kept)
    at_default = np.array([model.positions[model.names.index(name)] for name in names])
    points = measured.reordered(names).positions
    rotation, shift = fit_rigid(np.nanmean(points, axis=0), at_default)
    return replace(measured, names=names, positions=points @ rotation.T + shift)


def adopt_model(
    *,
    scaled_path: str | Path,
    generic_path: str | Path,
    skeleton: Skeleton,
    marker_set: MarkerSet,
    measurements: MeasurementSet,
    static: MarkerTrajectories | None,
    output_path: str | Path,
) -> ScaledSubject:
    """A subject's own model as it is; its factors by comparison with the generic model.

    Args:
        scaled_path: the model; markers of the set that it lacks are added at their scaled places.
        generic_path: the data set's model, of which `skeleton` was compiled.
        skeleton: names of the bodies.
        marker_set: weights of the static pose.
        measurements: the factors are read off the body scales.
        static: judges the model; None leaves its static RMS NaN.
        output_path: where the model goes.

    Raises:
        InvalidInputError: it is no scaled copy of the generic model.
        KinematicsError: the static trial has too few markers.
    """
    model = load_model(scaled_path)
    scales = scales_between(load_model(generic_path), model)
    restore_markers(model, marker_set, dict(zip(skeleton.bodies, scales, strict=True)))
    write_model(model, Path(output_path))
    rms = float("nan")
    if static is not None:
        weights = dict(zip(marker_set.names, map(float, marker_set.scaling_weights), strict=True))
        with np.errstate(invalid="ignore"):
            mean = static.positions.mean(axis=0, keepdims=True)
        still = replace(static, positions=mean, times=static.times[:1])
        pose = inverse_kinematics(model_path=output_path, trajectories=still, weights=weights)
        rms = pose.rms_error(np.sign(marker_set.scaling_weights))
    return ScaledSubject(
        model_path=Path(output_path),
        measurement_factors=measurements.factors_from_body_scales(scales, skeleton),
        body_scales=scales,
        body_names=tuple(body.getName() for body in model.getBodySet()),
        static_marker_rms_m=rms,
        locked=tuple(c.getName() for c in model.getCoordinateSet() if c.get_locked()),
    )
