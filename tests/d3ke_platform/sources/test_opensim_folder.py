"""Finding files in OpenSim users' folders: by content, tolerant of layouts, errors by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from d3ke.errors import D3KEError, InvalidInputError, UnknownNameError
from d3ke_platform.cli import parse
from d3ke_platform.errors import UsageError
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.sources.opensim_folder import scan, shared_files, subject_folders
from d3ke_platform.sources.opensim_people import read_people, splits_of
from d3ke_platform.sources.opensim_settings import OpenSimSettings
from d3ke_platform.sources.opensim_subject import SubjectFiles, find_subject
from d3ke_platform.sources.opensim_videos import match_videos

SCALE = """<OpenSimDocument><ScaleTool name="{name}"><GenericModelMaker>
<model_file>{model}</model_file></GenericModelMaker><ModelScaler><apply>true</apply>
<scaling_order>measurements</scaling_order><MeasurementSet><objects><Measurement name="m">
<MarkerPairSet><objects><MarkerPair><markers>A B</markers></MarkerPair></objects></MarkerPairSet>
</Measurement></objects></MeasurementSet><marker_file>{static}</marker_file></ModelScaler>
<MarkerPlacer><marker_file>{static}</marker_file></MarkerPlacer></ScaleTool></OpenSimDocument>"""
IK = """<OpenSimDocument><InverseKinematicsTool><model_file>{model}</model_file>
<marker_file>{markers}</marker_file><IKTaskSet><objects><IKMarkerTask name="A"><weight>1</weight>
</IKMarkerTask></objects></IKTaskSet></InverseKinematicsTool></OpenSimDocument>"""


def put(folder: Path, *names: str, **texts: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    for name, text in texts.items():
        (folder / f"{name}.xml").write_text(text)
    return folder


def found(root: Path, **settings) -> list[SubjectFiles]:
    chosen = OpenSimSettings(**settings)
    folders = subject_folders(root, chosen.subject_folders)
    shared = shared_files(root, folders)
    return [find_subject(scan(f), shared, chosen, flat=f == root) for f in folders]


def test_a_flat_folder_is_one_subject_and_setups_are_told_by_content(tmp_path):
    put(
        tmp_path,
        "generic.osim",
        "old result.osim",
        "stand.trc",
        "walk1.trc",
        "run.trc",
        zzz=SCALE.format(name="anna", model="generic.osim", static="stand.trc"),
        aaa=IK.format(model="scaled.osim", markers="walk1.trc"),
        other="<OpenSimDocument><ScaleSet/></OpenSimDocument>",
    )
    (subject,) = found(tmp_path)
    assert (subject.name, subject.scale) == ("anna", "setup")
    assert subject.generic.name == "generic.osim"
    assert subject.static is not None
    assert subject.static.name == "stand.trc"
    run, walk = subject.trials
    assert (walk.name, walk.ik_setup, walk.timed) == ("walk1", tmp_path / "aaa.xml", True)
    # The only IK setup serves the other trial too, but not by its time range.
    assert (run.name, run.ik_setup, run.timed) == ("run", tmp_path / "aaa.xml", False)
    assert any("scaled by OpenSim's ScaleTool as zzz.xml says" in note for note in subject.notes)


def test_files_are_found_where_opensim_users_put_them(tmp_path):
    """The folders of OpenSim's own distributions: setups point to files in other folders."""
    put(tmp_path, "s1/ExpData/static.trc", "s1/ExpData/walk.trc", "s1/Scale/x", "s1/IK/x")
    put(tmp_path, "generic.osim")
    put(
        tmp_path / "s1/Scale",
        setup=SCALE.format(name="a", model="../../generic.osim", static="..\\ExpData\\static.trc"),
    )
    put(tmp_path / "s1/IK", ik=IK.format(model="a.osim", markers="../ExpData/walk.trc"))
    (subject,) = found(tmp_path)
    assert subject.name == "s1"
    assert subject.generic == tmp_path / "generic.osim"
    assert subject.static == tmp_path / "s1/ExpData/static.trc"
    assert [(trial.name, trial.timed) for trial in subject.trials] == [("walk", True)]


def test_a_c3d_stands_in_for_the_trc_that_a_setup_names(tmp_path):
    put(tmp_path, "m.osim", "static.c3d", "walk.c3d", "jump.c3d", "jump.trc")
    put(tmp_path, s=SCALE.format(name="a", model="m.osim", static="static.trc"))
    (subject,) = found(tmp_path)
    assert subject.static == tmp_path / "static.c3d"
    assert sorted(t.markers.name for t in subject.trials) == ["jump.trc", "walk.c3d"]


def test_models_and_setups_in_the_input_folder_serve_all_subjects(tmp_path):
    put(tmp_path, "generic.osim", "a/static.trc", "a/w.trc", "b/static.trc", "b/w.trc", "docs/x.md")
    put(tmp_path, s=SCALE.format(name="x", model="generic.osim", static="static.trc"))
    first, second = found(tmp_path)
    assert (first.name, second.name) == ("a", "b")
    assert first.static == tmp_path / "a/static.trc"
    assert second.static == tmp_path / "b/static.trc"


def test_without_a_setup_the_model_is_taken_as_the_subjects_own(tmp_path):
    put(tmp_path, "m.osim", "T-pose.trc", "walk.trc", "calibration 1.c3d.txt")
    (subject,) = found(tmp_path)
    assert (subject.scale, subject.scaled_model) == ("own", tmp_path / "m.osim")
    assert any("taken as this subject's own model, unscaled" in note for note in subject.notes)
    (estimated,) = found(tmp_path, scale="estimate")
    assert (estimated.scale, estimated.static) == ("estimate", tmp_path / "T-pose.trc")


def test_the_model_of_an_ik_setup_is_scaled_already(tmp_path):
    put(tmp_path, "generic.osim", "anna.osim", "walk.trc")
    put(tmp_path, ik=IK.format(model="anna.osim", markers="walk.trc"))
    (subject,) = found(tmp_path)
    assert (subject.scale, subject.scaled_model) == ("model", tmp_path / "anna.osim")
    assert subject.generic == tmp_path / "generic.osim"


def test_trials_of_one_name_in_several_folders_keep_apart(tmp_path):
    put(tmp_path, "m.osim", "day1/walk.trc", "day2/walk.trc", "x.trc")
    (subject,) = found(tmp_path)
    assert sorted(t.name for t in subject.trials) == ["day1-walk", "day2-walk", "x"]


@pytest.mark.parametrize(
    ("names", "texts", "settings", "error", "reason"),
    [
        (("m.osim",), {}, {}, UsageError, r"neither it nor a folder in it holds marker files"),
        (("w.trc",), {}, {}, InvalidInputError, r"no OpenSim model"),
        (("a.osim", "b.osim", "w.trc"), {}, {}, UsageError, r"several models: a\.osim, b\.osim"),
        (("m.osim", "static.trc"), {}, {"scale": "setup"}, InvalidInputError, r"no setup of"),
        (("m.osim", "w.trc"), {}, {"scale": "estimate"}, InvalidInputError, r"no static trial"),
        (("m.osim", "w.trc"), {}, {"model": "x*"}, UsageError, r"--opensim\.model x\*"),
        (
            ("m.osim", "stand.trc", "w.trc"),
            {"s": SCALE.format(name="a", model="m.osim", static="standing.trc")},
            {},
            InvalidInputError,
            r"Scale setup s\.xml: names standing\.trc, which is neither.*There are: stand\.trc",
        ),
        (
            ("m.osim", "w.trc"),
            {"s": SCALE.format(name="a", model="none.osim", static="w.trc")},
            {},
            InvalidInputError,
            r"names none\.osim.*There are: m\.osim",
        ),
        (
            ("m.osim", "w.trc"),
            {"s": "<OpenSimDocument><ScaleTool>"},
            {},
            InvalidInputError,
            r"s\.xml: is not XML",
        ),
        (
            ("m.osim", "static.trc"),
            {"s": SCALE.format(name="a", model="m.osim", static="static.trc")},
            {},
            UsageError,
            r"no trial beside the static one \(static\.trc\)",
        ),
    ],
)
def test_what_is_missing_or_ambiguous_is_named(tmp_path, names, texts, settings, error, reason):
    put(tmp_path, *names, **texts)
    with pytest.raises(error, match=reason):
        found(tmp_path, **settings)


def test_an_absent_input_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        subject_folders(tmp_path / "none")


def test_videos_go_to_trials_and_cameras(tmp_path):
    trials = [tmp_path / "walk.trc", tmp_path / "walk_fast.trc"]
    videos = [
        tmp_path / name
        for name in (
            "videos/walk_cam1.mp4",
            "videos/walk_fast_cam1.avi",
            "videos/cam2/walk.mp4",
            "walk_fast/cam3.mp4",
            "walk.mov",
            "jump_cam1.mp4",
        )
    ]
    matched, left = match_videos(videos, trials, tmp_path)
    assert [camera for camera, _ in matched[trials[0]]] == ["cam1", "cam2", ""]
    assert [camera for camera, _ in matched[trials[1]]] == ["cam1", "cam3"]
    assert left == [tmp_path / "jump_cam1.mp4"]


def test_people_and_splits_come_from_a_table_or_the_settings(tmp_path):
    table = tmp_path / "subjects.csv"
    table.write_text("subject, split, mass_kg\na, test, 70\nb, train,\n", encoding="utf-8-sig")
    people = read_people(table, ["a", "b"])
    assert people == {"a": {"split": "test", "mass_kg": "70"}, "b": {"split": "train"}}
    assert splits_of(["a", "b"], people, OpenSimSettings()) == {"a": "test", "b": "train"}
    assert read_people(tmp_path / "none.csv", ["a"]) == {}
    three = splits_of(["a", "b", "c"], {}, OpenSimSettings())
    assert three == {"a": "train", "b": "validation", "c": "test"}
    assert splits_of(["a"], {}, OpenSimSettings()) == {"a": "train"}
    stated = OpenSimSettings(validation_subjects=("a",))
    assert splits_of(["a", "b", "c"], {}, stated) == {"a": "validation", "b": "train", "c": "train"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("subject,split\na,train\na,test\n", r"lists subject a in two splits: train and test"),
        ("subject,split\nc,train\n", r"Unknown subject in subjects\.csv 'c'"),
        ("subject,split\na,learn\n", r"'learn'.*train, validation, test"),
        ("subject,mass_kg\na,heavy\n", r"mass_kg of a in subjects\.csv: 'heavy' is not a number"),
        ("subject,mass_kg\na,-3\n", r"is -3"),
        ("name\na\n", r"none of them 'subject'"),
        ("subject,weight\na,3\n", r"Unknown column of subjects\.csv 'weight'"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path, text, reason):
    (tmp_path / "subjects.csv").write_text(text)
    with pytest.raises(D3KEError, match=reason):
        read_people(tmp_path / "subjects.csv", ["a", "b"])


def test_a_subject_belongs_to_one_split():
    with pytest.raises(InvalidInputError, match="a in two splits, validation and test"):
        OpenSimSettings(validation_subjects=("a",), test_subjects=("a", "b"))
    with pytest.raises(InvalidInputError, match="a in two splits: train by the table, test by"):
        splits_of(["a", "b"], {"a": {"split": "train"}}, OpenSimSettings(test_subjects=("a",)))
    with pytest.raises(UnknownNameError, match="'z'"):
        splits_of(["a"], {}, OpenSimSettings(test_subjects=("z",)))
    with pytest.raises(InvalidInputError, match="leave none of 1 subjects to train"):
        splits_of(["a"], {}, OpenSimSettings(test_subjects=("a",)))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"scale": "guess"}, "'guess'"),
        ({"units": "inch"}, "'inch'"),
        ({"up_axis": "up"}, "'up'"),
        ({"most_missing": 1.5}, "is not a share"),
        ({"movement": "("}, "opensim.movement"),
        ({"movement": "walk"}, "no group"),
        ({"marker_names": {"A": "X", "B": "X"}}, "become X"),
        ({"most_length_difference_s": -1.0}, "negative"),
    ],
)
def test_settings_are_checked(settings, reason):
    with pytest.raises(D3KEError, match=reason):
        OpenSimSettings(**settings)


def test_names_of_markers_can_be_stated_in_a_file(tmp_path):
    config = tmp_path / "prepare.toml"
    config.write_text(
        'source = "opensim"\ninput = "in"\noutput = "out"\n[opensim.marker_names]\n'
        '"R.ASIS" = "RASI"\n"L.ASIS" = "LASI"\n'
    )
    settings = parse(PrepareSettings, ["--config", str(config)], job="prepare")
    assert settings.opensim.marker_names == {"R.ASIS": "RASI", "L.ASIS": "LASI"}
