"""Exports: what OpenSim makes of the files is what the results say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from random_bundle import as_estimate, random_estimates
from video_files import write_video

from d3ke.camera import Camera
from d3ke.errors import D3KEError
from d3ke.kinematics import read_mot, read_trc
from d3ke.networks import load_bundle
from d3ke_platform.stages.body_outline import surface_markers
from d3ke_platform.stages.decode import frames
from d3ke_platform.stages.export import EXPORTS, ExportRecording, check_exports
from d3ke_platform.stages.overlay import (
    LEFT,
    MIDDLE,
    RIGHT,
    Bones,
    Overlay,
    side_color,
    write_overlay,
)
from d3ke_platform.stages.refine import Placement


@pytest.fixture(scope="module")
def exported(
    random_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any, Path]:
    """Bundle, results and folder of a recording with random motion and uneven body scales."""
    bundle = load_bundle(random_bundle)
    camera = Camera.assumed((640, 480))
    columns = random_estimates(bundle, 4, camera, seed=3)
    estimate = as_estimate(columns)
    results = Placement(bundle, estimate.factors, camera).results(columns, estimate)
    folder = tmp_path_factory.mktemp("exports")
    written = ExportRecording(bundle, ("mot", "osim", "trc")).write(folder, results, fps=10.0)
    assert sorted(written) == ["markers.trc", "model.osim", "motion.mot"]
    return bundle, results, folder


def test_opensim_poses_the_markers_of_the_results(exported: tuple[Any, Any, Path]) -> None:
    import opensim

    bundle, results, folder = exported
    opensim.Logger.setLevelString("Error")
    model = opensim.Model(str(folder / "model.osim"))
    state = model.initSystem()
    motion = opensim.Storage(str(folder / "motion.mot"))
    assert motion.isInDegrees()
    model.getSimbodyEngine().convertDegreesToRadians(motion)
    labels = [motion.getColumnLabels().get(i) for i in range(motion.getColumnLabels().getSize())]
    assert labels[1:] == list(bundle.skeleton.coordinates)
    worst = 0.0
    for row in range(motion.getSize()):
        values = motion.getStateVector(row).getData()
        for column, name in enumerate(labels[1:]):
            model.getCoordinateSet().get(name).setValue(state, values.get(column), False)
        model.assemble(state)
        model.realizePosition(state)
        for index, name in enumerate(bundle.skeleton.markers):
            place = model.getMarkerSet().get(name).getLocationInGround(state).to_numpy()
            worst = max(worst, float(np.linalg.norm(place - results["markers"][row, index])))
    assert worst < 1e-5


def test_motion_and_markers_read_back(exported: tuple[Any, Any, Path]) -> None:
    bundle, results, folder = exported
    motion = read_mot(folder / "motion.mot")
    assert motion.names == bundle.skeleton.coordinates
    np.testing.assert_allclose(motion.values, results["coordinates"], atol=1e-7)
    np.testing.assert_allclose(motion.times, results["time_s"], atol=1e-7)
    markers = read_trc(folder / "markers.trc")
    assert markers.names == bundle.skeleton.markers
    np.testing.assert_allclose(markers.positions, results["markers"], atol=1e-7)


def test_unknown_export_and_missing_model(tmp_path: Path, random_bundle: Path) -> None:
    import shutil

    with pytest.raises(D3KEError, match="overlay"):
        check_exports(("overlai",))
    copy = tmp_path / "bundle"
    shutil.copytree(random_bundle, copy)
    (copy / "model.osim").unlink()
    with pytest.raises(D3KEError, match=r"no model\.osim"):
        ExportRecording(load_bundle(copy), ("osim",))


def test_sides_have_their_colours() -> None:
    names = ("pelvis", "femur_r", "femur_l", "humerus", "humerus_l")
    assert [side_color(n, names) for n in names] == [MIDDLE, RIGHT, LEFT, RIGHT, LEFT]


def test_bones_follow_the_tree(random_bundle: Path) -> None:
    skeleton = load_bundle(random_bundle).skeleton
    bones = Bones.of_skeleton(skeleton, surface_markers(skeleton))
    knee, hip = (skeleton.index_of("joint", name) for name in ("knee_r", "hip_r"))
    assert [hip, knee] in bones.pairs.tolist()
    assert bones.colors[bones.pairs.tolist().index([hip, knee])] == RIGHT
    # The head and the toes end at a marker.
    ends = [
        skeleton.markers[end - len(skeleton.joints)]
        for _, end in bones.pairs
        if end >= len(skeleton.joints)
    ]
    assert {"RTOE", "LTOE"} <= set(ends) or len(ends) >= 3


def test_overlay_has_every_frame_and_the_skeleton_in_it(
    exported: tuple[Any, Any, Path], tmp_path: Path
) -> None:
    bundle, results, _ = exported
    video = write_video(tmp_path / "v.mp4", 4, size=(640, 480))
    camera = Camera.assumed((640, 480))
    skeleton = bundle.skeleton
    overlay = Overlay(skeleton, surface_markers(skeleton), camera, results)
    target = tmp_path / EXPORTS["overlay"]
    assert write_overlay(target, frames(video), [overlay], fps=10.0) == 4
    with av.open(str(target)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 4
    assert pictures[0].shape == (480, 640, 3)
    original = next(frames(video)).image
    x0, y0, x1, y1 = results["box"][0].clip(0).astype(int)
    changed = np.abs(pictures[0].astype(int) - original).max(axis=2) > 60
    assert changed[y0:y1, x0:x1].mean() > 0.03
    assert changed[400:, : max(x0 - 40, 1)].mean() < 0.01
