"""Real videos: Pose2Sim's demonstration through detection, triangulation, scaling and labels."""

from __future__ import annotations

import os
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke_platform import files
from d3ke_platform.pipelines.prepare import plan
from d3ke_platform.pipelines.prepare_settings import LabelSettings
from d3ke_platform.schema import LABELS, RECORDINGS, TRIALS
from d3ke_platform.sources import pose2sim_demo
from d3ke_platform.sources.multicamera import MultiCameraSource
from d3ke_platform.sources.multicamera_settings import MultiCameraSettings
from d3ke_platform.sources.video import VideoWriter
from d3ke_platform.stages.decode import frames
from d3ke_platform.stages.label import LabelTrial, ScaleSubject
from d3ke_platform.storage import DataSet

FRAMES = 20
CROP = {"stored_size": 64, "field_of_view": 1.2, "margin": 1.25}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo in Pose2Sim's layout, its first third of a second."""
    if not os.environ.get("D3KE_POSE_MODEL"):
        pytest.skip("D3KE_POSE_MODEL names no pose model")
    try:
        wheel = os.environ.get("D3KE_DEMO_WHEEL") or None
        fetched = pose2sim_demo.fetch(tmp_path_factory.mktemp("pose2sim"), wheel=wheel)
    except InvalidInputError as error:
        pytest.skip(str(error))
    root = tmp_path_factory.mktemp("input") / "demo"
    (root / "videos").mkdir(parents=True)
    (root / "calibration").mkdir()
    shutil.copy(fetched / pose2sim_demo.CALIBRATION, root / "calibration")
    for name in pose2sim_demo.CAMERAS:
        pictures = [f.image for f in islice(frames(fetched / f"{name}.mp4"), FRAMES)]
        size = (pictures[0].shape[1], pictures[0].shape[0])
        with VideoWriter(root / f"videos/{name}.mp4", size=size, fps=60.0) as writer:
            for picture in pictures:
                writer.write(picture)
    return root


@pytest.mark.slow
def test_labels_from_four_cameras(demo: Path, tmp_path: Path) -> None:
    data = DataSet.create(tmp_path / "data", source="multicamera", settings={"crop": CROP})
    source = MultiCameraSource(MultiCameraSettings(), folder=str(demo))
    units = sorted(plan(data, source), key=lambda unit: unit["phase"])
    trials, recordings = [], []
    for unit in units:
        made = source.make(unit, Path(data.root))
        rows = {"trials": list(made.trials), "recordings": list(made.recordings)}
        files.write_json(data.uri("units", f"{unit['unit']}.json"), rows)
        trials += made.trials
        recordings += made.recordings
    data.write_rows(TRIALS, trials)
    data.write_rows(RECORDINGS, recordings)

    assert files.read_json(data.uri("views", "calibration.json"))["up_axis"] == "z"
    summary = files.read_json(data.uri("views", "demo_trial.json"))
    assert summary["frames"] == FRAMES
    assert summary["mean_reprojection_px"] < 12.0
    assert summary["share_missing_after_filling"] < 0.01
    assert len(files.read_json(data.uri("quality", "triangulation.json"))["pictures"]) == 4

    ScaleSubject(data.root)(data.subjects()[0])
    smoothness = LabelSettings().smoothness_of("multicamera")
    LabelTrial(data.root, smoothness=smoothness)(data.trials()[0])
    labels = LABELS.to_numpy(files.read_table(data.label_uri("demo_trial")))
    assert labels["converged"].all()
    assert np.sqrt(np.nanmean(np.square(labels["marker_error_m"]))) < 0.03
    names = list(data.predicted().coordinates)
    angles = np.rad2deg(labels["coordinates"][:, data.skeleton().index_of("coordinate", names)])
    jumps = dict(zip(names, np.abs(np.diff(angles, axis=0)).max(axis=0).round(1), strict=True))
    # The turn of a nearly straight arm is not determined, but it does not leap either.
    limits = {name: 20.0 if name.startswith("shoulder_rot") else 12.0 for name in names}
    assert {name for name in names if jumps[name] > limits[name]} == set(), jumps
    knee = angles[:, names.index("knee_angle_r")]
    assert knee.min() > -120.0
    assert knee.max() < 10.0
