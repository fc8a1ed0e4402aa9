"""A subject's model by OpenSim's own ScaleTool, as a user's setup file asks for it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError, KinematicsError
from d3ke.kinematics.ik_tasks import CoordinateTask
from d3ke.kinematics.inverse_kinematics import inverse_kinematics
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.opensim_library import load_model, load_opensim
from d3ke.kinematics.scale_setup import ScaleSetup
from d3ke.kinematics.scale_setup_checks import check_factors, check_setup, frames_in
from d3ke.kinematics.scale_setup_file import (
    PLACED_MODEL,
    SCALED_MODEL,
    SCALES,
    write_scale_setup,
)
from d3ke.kinematics.scale_tool import read_scales
from d3ke.kinematics.scaling import ScaledSubject, restore_markers, write_model
from d3ke.kinematics.setup_sets import model_with_markers
from d3ke.kinematics.trc import MarkerTrajectories, write_trc
from d3ke.skeleton import MeasurementSet, Skeleton


def scale_by_setup(
    setup: ScaleSetup,
    *,
    static: MarkerTrajectories,
    skeleton: Skeleton,
    marker_set: MarkerSet,
    measurements: MeasurementSet,
    output_path: str | Path,
    measured: MarkerTrajectories | None = None,
) -> ScaledSubject:
    """Runs OpenSim's ScaleTool on a setup, in a folder of its own, and changes nothing else.

    Markers of the set that the tool deletes, because the static trial lacks them, are put back at
    their scaled places: later trials may have them.

    Args:
        setup: its model, marker set and coordinate file exist.
        static: the static trial, times as in the setup's time ranges.
        skeleton: names of the bodies whose scales are returned.
        marker_set: markers that the scaled model shall have.
        measurements: the factors are read off the body scales.
        output_path: where the scaled model goes; written last, in one step.
        measured: the trial whose marker distances the scaler averages; the static one if left out.

    Raises:
        UnknownNameError, KinematicsError, InvalidInputError: see `check_setup`; a file is missing,
            a factor not plausible, or OpenSim failed.
    """
    if setup.model_file is None:
        raise InvalidInputError(f"Scale setup {setup.name!r}", "names no model_file")
    generic = model_with_markers(setup.model_file, setup.marker_set_file)
    bodies = tuple(body.getName() for body in generic.getBodySet())
    markers = {marker.getName() for marker in generic.getMarkerSet()}
    measured = measured or static
    check_setup(setup, bodies=bodies, markers=markers, static=static, measured=measured)
    with tempfile.TemporaryDirectory(prefix="d3ke_scaling_") as name:
        model_file, factors = _run(setup, static, measured, Path(name))
        check_factors(setup, factors)
        scales = np.array([factors.get(body, np.ones(3)) for body in skeleton.bodies])
        model = load_model(model_file)
        restore_markers(model, marker_set, dict(zip(skeleton.bodies, scales, strict=True)))
        rms = _static_rms(model, Path(name), setup, static)
        write_model(model, Path(output_path))
    return ScaledSubject(
        model_path=Path(output_path),
        measurement_factors=measurements.factors_from_body_scales(scales, skeleton),
        body_scales=scales,
        body_names=bodies,
        static_marker_rms_m=rms,
        locked=tuple(c.getName() for c in model.getCoordinateSet() if c.get_locked()),
    )


def _run(
    setup: ScaleSetup, static: MarkerTrajectories, measured: MarkerTrajectories, folder: Path
) -> tuple[Path, dict[str, FloatArray]]:
    """The model that the tool wrote, and body -> scale [3] (none if it scales nothing)."""
    opensim = load_opensim()
    write_trc(folder / "static.trc", static)
    write_trc(folder / "measured.trc", measured)
    local = _local_setup(setup, static, measured, folder)
    write_scale_setup(folder / "setup.xml", local)
    try:
        # run() also returns False when only one of its steps was skipped: its files tell.
        opensim.ScaleTool(str(folder / "setup.xml")).run()
    except RuntimeError as error:
        raise KinematicsError("Scale tool", str(error).strip().splitlines()[0]) from error
    if not setup.scaler.apply and not setup.placer.apply:
        return folder / "generic.osim", {}
    model = folder / (PLACED_MODEL if setup.placer.apply else SCALED_MODEL)
    if not model.is_file():
        step = "place the markers" if (folder / SCALED_MODEL).is_file() else "scale the model"
        raise KinematicsError("Scale tool", f"could not {step} of setup {setup.name!r}")
    scales = read_scales(folder / SCALES) if (folder / SCALES).is_file() else {}
    return model, scales


def _local_setup(
    setup: ScaleSetup, static: MarkerTrajectories, measured: MarkerTrajectories, folder: Path
) -> ScaleSetup:
    """The setup with all its files under plain names in `folder`, and time ranges.

    OpenSim has none where a file states none, and fails; here that means the whole trial.
    """

    def local(file: Path | None, name: str) -> Path | None:
        if file is None:
            return None
        if not file.is_file():
            raise InvalidInputError(str(file), "there is no such file")
        shutil.copyfile(file, folder / name)
        return folder / name

    scaler, placer = setup.scaler, setup.placer
    motion = local(placer.coordinate_file, "coordinates.mot") if placer.apply else None
    return replace(
        setup,
        model_file=local(setup.model_file, "generic.osim"),
        marker_set_file=local(setup.marker_set_file, "markers.xml"),
        scaler=replace(
            scaler,
            marker_file=folder / "measured.trc",
            time_range=scaler.time_range or _whole(measured),
        ),
        placer=replace(
            placer,
            marker_file=folder / "static.trc",
            coordinate_file=motion,
            time_range=placer.time_range or _whole(static),
        ),
    )


def _whole(trial: MarkerTrajectories) -> tuple[float, float]:
    return float(trial.times[0]), float(trial.times[-1])


def _static_rms(model: Any, folder: Path, setup: ScaleSetup, static: MarkerTrajectories) -> float:
    """m, of the placer's weighted markers in the static pose of the finished model."""
    placer = setup.placer
    names = {marker.getName() for marker in model.getMarkerSet()}
    weights = placer.marker_weights or dict.fromkeys(static.names, 1.0)
    weights = {n: w for n, w in weights.items() if w > 0.0 and n in names and n in static.names}
    if len(weights) < 3:
        return float("nan")
    frames = frames_in(static.times, placer.time_range)
    model.printToXML(str(folder / "finished.osim"))
    with np.errstate(invalid="ignore"):
        mean = static.positions[frames].mean(axis=0, keepdims=True)
    pose = inverse_kinematics(
        model_path=folder / "finished.osim",
        trajectories=replace(static, positions=mean, times=static.times[:1]),
        weights=weights,
        coordinate_tasks=[
            CoordinateTask(
                name=task.name,
                weight=task.weight,
                value=task.value if task.value_type == "manual_value" else None,
            )
            for task in placer.coordinate_tasks
            if task.value_type != "from_file"
        ],
    )
    return pose.rms_error(np.ones(len(weights)))
