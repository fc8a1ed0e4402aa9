"""OpenSim's own example folders, as they lie, through the source and the label stages."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3ke.errors import D3KEError
from d3ke.kinematics import MarkerTrajectories, read_ik_setup, read_mot, read_trc, write_trc
from d3ke.kinematics.axes import ground_from_axes
from d3ke.kinematics.scale_tool import read_scales
from d3ke_platform import storage
from d3ke_platform.errors import UsageError
from d3ke_platform.pipelines.prepare import plan
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.schema import LABELS, SUBJECT_LABELS
from d3ke_platform.sources import MadeUnit
from d3ke_platform.sources.opensim_settings import OpenSimSettings
from d3ke_platform.sources.opensim_trials import OpenSimSource
from d3ke_platform.stages.label import LabelTrial, ScaleSubject, _Scaling
from d3ke_platform.storage import DataSet

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / "d3ke" / "kinematics"), str(TESTS / "d3ke_platform" / "stages")]
from c3d_files import write_c3d  # noqa: E402
from video_files import write_video  # noqa: E402

SHARED = TESTS.parents[1] / "shared" / "opensim-models"
GAIT, RAJAGOPAL = SHARED / "gait2354", SHARED / "rajagopal"
CROP = {"stored_size": 64, "field_of_view": 1.2, "margin": 1.25}
pytestmark = pytest.mark.skipif(not GAIT.is_dir(), reason="../shared/opensim-models is not here")
# Rajagopal's recording names its markers otherwise than the model that comes with it.
OTHER_NAMES = {
    "R.Shoulder": "RACR",
    "L.Shoulder": "LACR",
    "R.Elbow": "RLEL",
    "L.Elbow": "LLEL",
    "R.Knee": "RLFC",
    "L.Knee": "LLFC",
    "R.Ankle": "RLMAL",
    "L.Ankle": "LLMAL",
    "R.Heel": "RCAL",
    "L.Heel": "LCAL",
}


def planned(root: Path, folder: Path, **settings: Any) -> tuple[DataSet, OpenSimSource, dict]:
    """A data set of a folder, its source and its units by kind."""
    chosen = OpenSimSettings(**settings)
    data = DataSet.create(root, source="opensim", settings={"crop": CROP})
    source = OpenSimSource(str(folder), chosen)
    units = plan(data, source)
    return data, source, {unit["kind"]: unit for unit in units}


@pytest.fixture(scope="module")
def gait(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataSet, OpenSimSource, dict]:
    """Planned and made from the folder as it lies."""
    data, source, units = planned(tmp_path_factory.mktemp("gait") / "data", GAIT)
    source.make(units["subject"], Path(data.root))
    return data, source, units


def test_the_folder_is_understood_as_it_lies(gait):
    data, _, units = gait
    (subject,) = data.subjects()
    assert (subject["subject"], subject["split"], subject["mass_kg"]) == (
        "subject01",
        "train",
        72.6,
    )
    assert subject["height_m"] == pytest.approx(1.8034)
    assert data.measurements().body_axes["shank"] == (("talus_r", "xyz"), ("talus_l", "xyz"))
    assert units["trial"]["trial_id"] == "subject01_walk1"
    assert units["trial"]["movement"] == "walk"
    assert "knee_angle_r" in data.predicted().coordinates
    weights = data.marker_set().ik_weights
    assert weights.max() == 1.0  # 10 for the pelvis in the setup: the limbs are judged as well
    # No marker sits on the toes.
    assert data.marker_set().undetermined == ("mtp_angle_r", "mtp_angle_l")
    assert "mtp_angle_r" not in data.predicted().coordinates
    notes = storage.read_json(data.uri("notes.json"))
    assert any("no marker tells mtp_angle_r, mtp_angle_l" in note for note in notes)
    assert any("subject01_Setup_Scale.xml" in note for note in notes)
    assert any("subject01_Setup_IK.xml, its time range" in note for note in notes)


def test_the_trial_is_cut_to_the_setups_time_range(gait):
    data, source, units = gait
    (row,) = source.make(units["trial"], Path(data.root)).trials
    assert (row["frame_count"], row["rate_hz"]) == (73, 60.0)
    trial = read_trc(data.resolve(row["markers_uri"]))
    assert (trial.times[0], trial.times[-1]) == (0.4, 1.6)
    assert "R.Elbow" not in trial.names  # the model has no such marker
    setup = read_ik_setup(data.resolve(row["ik_setup_uri"]))
    assert setup.marker_weights == read_ik_setup(GAIT / "subject01_Setup_IK.xml").marker_weights
    assert setup.marker_file == data.resolve(row["markers_uri"])


def test_the_subject_is_scaled_as_published(gait):
    data, _, _ = gait
    scaled = _Scaling(data.root).scale(data.subjects()[0], place_markers=True)
    published = read_scales(GAIT / "reference_scaleSet_applied.xml")
    expected = np.array([published[body] for body in data.skeleton().bodies])
    np.testing.assert_allclose(scaled.body_scales, expected, atol=1e-5)


@pytest.mark.slow
def test_labels_of_the_published_model_are_the_published_motion(tmp_path):
    """Gate: 0.1 degrees (measured: 0.036), through the data set's stages."""
    data, source, units = planned(
        tmp_path / "data", GAIT, scale="model", scaled_model="reference_subject01_simbody.osim"
    )
    made = [source.make(units[kind], Path(data.root)) for kind in ("subject", "trial")]
    ScaleSubject(data.root)(data.subjects()[0])
    trial = dict(made[1].trials[0])
    LabelTrial(data.root)(trial)
    labels = LABELS.to_numpy(storage.read_table(data.label_uri("subject01_walk1")))
    expected, names = (
        read_mot(GAIT / "reference_subject01_walk1_ik.mot"),
        data.skeleton().coordinates,
    )
    order = [names.index(name) for name in expected.names]
    error = np.sqrt(np.mean((labels["coordinates"][:, order] - expected.values) ** 2, axis=0))
    lengths = np.array([name.endswith(("_tx", "_ty", "_tz")) for name in expected.names])
    assert np.rad2deg(error[~lengths]).max() < 0.1
    assert error[lengths].max() < 1e-4
    assert labels["converged"].all()
    row = SUBJECT_LABELS.to_rows(storage.read_table(data.subject_label_uri("subject01")))[0]
    published = read_scales(GAIT / "reference_scaleSet_applied.xml")
    scales = np.array([published[body] for body in data.skeleton().bodies])
    np.testing.assert_allclose(row["body_scales"], scales, atol=1e-3)


def test_another_marker_set_than_the_models_is_refused_with_the_near_misses(tmp_path):
    data, source, units = planned(tmp_path / "data", RAJAGOPAL)
    with pytest.raises(
        D3KEError, match=r"'R\.ASIS' \(model: 'RASI'\), 'L\.ASIS' \(model: 'LASI'\)"
    ):
        source.make(units["trial"], Path(data.root))
    notes = storage.read_json(data.uri("notes.json"))
    assert any("taken as this subject's own model" in note for note in notes)
    assert any("names markers that the model lacks" in note for note in notes)


def test_other_names_can_be_stated_and_near_misses_accepted(tmp_path):
    data, source, units = planned(
        tmp_path / "data",
        RAJAGOPAL,
        scale="estimate",
        accept_near_misses=True,
        marker_names=OTHER_NAMES,
    )
    root = Path(data.root)
    source.make(units["subject"], root)
    (row,) = source.make(units["trial"], root).trials
    trial = read_trc(data.resolve(row["markers_uri"]))
    assert {"RASI", "RACR", "LTOE", "RCAL"} <= set(trial.names)
    original = read_trc(RAJAGOPAL / "motion_capture_walk.trc")
    np.testing.assert_allclose(trial.marker("RACR"), original.marker("R.Shoulder"), atol=1e-7)
    setup = read_ik_setup(data.resolve(row["ik_setup_uri"]))
    assert setup.marker_weights["RASI"] == 50.0
    assert not data.measurements().measured  # factors are estimated
    static = read_trc(data.resolve(data.subjects()[0]["static_uri"]))
    assert len(static.names) > 20


def test_recordings_in_c3d_files_of_a_z_up_laboratory_are_turned_upright(tmp_path, gait):
    data, source, units = gait
    files = {}
    for name, key in (("subject01_static", "static"), ("subject01_walk1", "markers")):
        trc = read_trc(GAIT / f"{name}.trc")
        path = tmp_path / f"{name}.c3d"
        files[key] = str(write_c3d(path, trc, axes=ground_from_axes("z").T, prefix="anna:"))
    unit = units["trial"] | files | {"timed": False, "trial_id": "c3d"}
    (row,) = source.make(unit, Path(data.root)).trials
    original = read_trc(GAIT / "subject01_walk1.trc")
    turned = read_trc(data.resolve(row["markers_uri"]))
    assert row["frame_count"] == len(original.times)
    np.testing.assert_allclose(turned.marker("Sternum"), original.marker("Sternum"), atol=1e-6)


def walk(tmp_path: Path, change: Any) -> Path:
    """The recorded walk, changed."""
    path = tmp_path / "walk.trc"
    write_trc(path, change(read_trc(GAIT / "subject01_walk1.trc")))
    return path


def moved(change: Any) -> Any:
    return lambda trial: replace(trial, positions=change(trial.positions.copy()))


def named(old: str, new: str) -> Any:
    return lambda t: replace(t, names=tuple(new if n == old else n for n in t.names))


def emptied(positions: np.ndarray) -> np.ndarray:
    positions[20:, :35] = np.nan
    return positions


def skipping(trial: MarkerTrajectories) -> MarkerTrajectories:
    kept = np.r_[0:60, 90:151]
    return replace(trial, positions=trial.positions[kept], times=trial.times[kept])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (moved(lambda p: p * 1e3), r"walk\.trc.*mm read as m, a factor of 1000"),
        (moved(lambda p: p * 1e-3), r"m read as mm, a factor of 0\.001"),
        (moved(lambda p: p @ ground_from_axes("z")), r"trunk points along z.*up_axis='z'"),
        (moved(lambda p: p * [1, -1, 1]), r"trunk points along -y"),
        (moved(lambda p: p * [1, 1, -1]), r"left-handed"),
        (named("R.ASIS", "RASIS"), r"'RASIS' \(model: 'R\.ASIS'\)"),
        (moved(emptied), r"% of its marker positions are missing.*L\.ASIS 100\.0 %"),
        (skipping, r"not those of 60 frames per second: frame 61"),
        (lambda t: replace(t, times=t.times + 9.0), r"time range of IK setup .* is 0\.4 to 1\.6"),
        (lambda t: t.reordered(["R.ASIS", "L.ASIS"]), r"2 of its markers are on the model"),
    ],
)
def test_trials_that_cannot_be_right_are_refused_by_name(tmp_path, gait, change, reason):
    data, source, units = gait
    with pytest.raises(D3KEError, match=reason):
        source.make(units["trial"] | {"markers": str(walk(tmp_path, change))}, Path(data.root))


def test_stating_the_axis_overrules_the_trunk(tmp_path, gait):
    data, _, units = gait
    path = walk(tmp_path, moved(lambda p: p @ ground_from_axes("z")))
    source = OpenSimSource(str(GAIT), OpenSimSettings(up_axis="z"))
    (row,) = source.make(
        units["trial"] | {"markers": str(path), "trial_id": "z"}, Path(data.root)
    ).trials
    turned = read_trc(data.resolve(row["markers_uri"])).marker("Sternum")
    assert 1.0 < turned[:, 1].mean() < 1.5


def test_setups_whose_markers_the_model_lacks_are_refused(tmp_path, gait):
    data, source, units = gait
    text = (GAIT / "subject01_Setup_IK.xml").read_text().replace("V.Sacral", "V.Sacrall")
    (tmp_path / "ik.xml").write_text(text)
    unit = units["trial"] | {"ik_setup": str(tmp_path / "ik.xml")}
    with pytest.raises(D3KEError, match=r"IK setup ik\.xml.*'V\.Sacrall' \(model: 'V\.Sacral'\)"):
        source.make(unit, Path(data.root))


def test_files_that_vanish_or_are_damaged_cost_their_unit(tmp_path, gait):
    data, source, units = gait
    with pytest.raises(D3KEError, match=r"none\.trc: No such file"):
        source.make(units["trial"] | {"markers": str(tmp_path / "none.trc")}, Path(data.root))
    (tmp_path / "a.c3d").write_bytes(b"\x02\x50" + bytes(600))
    with pytest.raises(D3KEError, match=r"a\.c3d"):
        source.make(units["trial"] | {"markers": str(tmp_path / "a.c3d")}, Path(data.root))


CAMERA = {
    "intrinsics": [[900.0, 0, 319.5], [0, 900.0, 239.5], [0, 0, 1]],
    # Seen from the side: it looks along ground -z, its x axis is ground x.
    "rotation": [[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]],
    "translation": [-0.6, 0.9, 4.0],
    "distortion": [0.0] * 5,
    "size": [640, 480],
}


def recording(gait: Any, folder: Path, frames: int = 75, **changes: Any) -> MadeUnit:
    data, source, units = gait
    cameras = {"side": CAMERA, "away": CAMERA | {"translation": [30.0, 0.0, 4.0]}}
    (folder / "calibration.json").write_text(json.dumps(cameras))
    video = write_video(folder / "walk.mp4", frames, size=(640, 480), fps=30)
    unit = units["trial"] | {
        "kind": "video",
        "recording_id": "subject01_walk1_side",
        "camera": "side",
        "video": str(video),
        "calibration": str(folder / "calibration.json"),
        "video_start_s": 0.0,
        "most_length_difference_s": 0.1,
    }
    return source.make(unit | changes, Path(data.root))


def test_a_video_beside_the_markers_becomes_a_recording(tmp_path, gait):
    (row,) = recording(gait, tmp_path).recordings
    assert (row["camera"], row["fps"], row["frame_count"]) == ("side", 30.0, 75)
    # The markers start at 0 s, the labels with the IK setup's time range.
    assert row["start_s"] == pytest.approx(-0.4)
    np.testing.assert_allclose(row["rotation"], CAMERA["rotation"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frames": 40}, r"walk\.mp4: is not synchronised.*40 frames at 30.*151 marker frames"),
        (
            {"camera": "front"},
            r"camera of video walk\.mp4 in calibration\.json 'front'.*side, away",
        ),
        ({"camera": "away"}, r"shows 0 % of the markers"),
        ({"calibration": ""}, r"has no camera calibration"),
        ({"video_start_s": 1.0}, r"not synchronised"),
    ],
)
def test_videos_that_do_not_go_with_the_markers_are_refused(tmp_path, gait, changes, reason):
    with pytest.raises(D3KEError, match=reason):
        recording(gait, tmp_path, **changes)


def test_a_model_of_other_bodies_needs_a_data_set_of_its_own(tmp_path):
    for subject, model in (("a", GAIT / "gait2354_simbody.osim"), ("b", None)):
        (tmp_path / subject).mkdir()
        shutil.copyfile(GAIT / "subject01_walk1.trc", tmp_path / subject / "walk.trc")
        source = model or RAJAGOPAL / "Rajagopal2016.osim"
        shutil.copyfile(source, tmp_path / subject / "model.osim")
    with pytest.raises(
        D3KEError, match=r"model of subject b: is another than that of a.*lacks body"
    ):
        OpenSimSource(str(tmp_path), OpenSimSettings()).plan(tmp_path / "data")


def test_one_subjects_missing_files_do_not_cost_the_others(tmp_path):
    for subject in ("a", "b"):
        (tmp_path / subject).mkdir()
        for file in GAIT.glob("*"):
            shutil.copyfile(file, tmp_path / subject / file.name)
    (tmp_path / "b" / "subject01_static.trc").unlink()
    data, source, units = planned(tmp_path / "data", tmp_path)
    assert [row["subject"] for row in data.subjects()] == ["a"]
    with pytest.raises(
        D3KEError, match=r"subject b: .*names subject01_static\.trc, which is neither"
    ):
        source.make(units["refused"], Path(data.root))
    for file in (tmp_path / "a").glob("*.trc"):
        file.unlink()
    with pytest.raises(D3KEError, match=r"names subject01_static\.trc"):
        OpenSimSource(str(tmp_path), OpenSimSettings()).plan(tmp_path / "other")


def test_subjects_own_models_are_compared_with_the_first(tmp_path):
    for subject, model in (("a", "gait2354_simbody"), ("b", "reference_subject01_simbody")):
        (tmp_path / subject).mkdir()
        shutil.copyfile(GAIT / "subject01_walk1.trc", tmp_path / subject / "walk.trc")
        shutil.copyfile(GAIT / f"{model}.osim", tmp_path / subject / "model.osim")
    data, source, units = planned(tmp_path / "data", tmp_path)
    source.make(units["subject"], Path(data.root))  # the last: b
    scaled = _Scaling(data.root).scale(data.subjects()[1], place_markers=True)
    femur = scaled.body_names.index("femur_r")
    np.testing.assert_allclose(scaled.body_scales[femur], 1.14724, atol=1e-3)
    # Markers of b's model, as they would sit on a's.
    generic = data.skeleton()
    place = generic.marker_locations[generic.index_of("marker", "R.Knee.Lat")]
    assert np.linalg.norm(place - [0.0, -0.404, 0.05]) < 0.03


def test_a_setups_generic_model_must_be_that_of_the_data_set(tmp_path):
    for subject, model in (("a", "gait2354_simbody"), ("b", "reference_subject01_simbody")):
        (tmp_path / subject).mkdir()
        for file in GAIT.glob("subject01*"):
            shutil.copyfile(file, tmp_path / subject / file.name)
        shutil.copyfile(
            GAIT / "gait2354_Scale_MarkerSet.xml",
            tmp_path / subject / "gait2354_Scale_MarkerSet.xml",
        )
        shutil.copyfile(GAIT / f"{model}.osim", tmp_path / subject / "gait2354_simbody.osim")
    with pytest.raises(
        D3KEError, match=r"subject b: gait2354_simbody\.osim is another size.*'femur_r' by \[1\.1"
    ):
        OpenSimSource(str(tmp_path), OpenSimSettings()).plan(tmp_path / "data")


def test_the_job_offers_the_source(tmp_path):
    settings = PrepareSettings(output=str(tmp_path), source="opensim", input=str(GAIT))
    source = settings.build_source()
    assert isinstance(source, OpenSimSource)
    assert source.name == settings.source
    with pytest.raises(UsageError, match="needs --input"):
        PrepareSettings(output=str(tmp_path), source="opensim")
