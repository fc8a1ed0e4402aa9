"""Setup files of OpenSim's inverse kinematics, read without OpenSim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics.ik_tasks import CoordinateTask, IKTasks, read_ik_setup
from d3ke.kinematics.mot import write_mot

SHARED = Path(__file__).parents[4] / "shared" / "opensim-models"
TOOL = """<OpenSimDocument Version="40000"><InverseKinematicsTool name="trial">
{settings}<IKTaskSet><objects>{tasks}</objects><groups/></IKTaskSet></InverseKinematicsTool>
</OpenSimDocument>"""
BARE = "<IKTaskSet><objects>{tasks}</objects></IKTaskSet>"
MARKERS = """
<IKMarkerTask name="A"><apply>true</apply><weight> 2.5 </weight></IKMarkerTask>
<IKMarkerTask name="B"><apply> False </apply><weight>7</weight></IKMarkerTask>
<IKMarkerTask name="C"><weight>4</weight></IKMarkerTask>
<IKMarkerTask name="D"><apply>true</apply></IKMarkerTask>"""


def task(name="knee", apply="true", weight="3", kind="manual_value", value="0.25"):
    return (
        f'<IKCoordinateTask name="{name}"><apply>{apply}</apply><weight>{weight}</weight>'
        f"<value_type>{kind}</value_type><value>{value}</value></IKCoordinateTask>"
    )


def read(folder, tasks, settings="", form=TOOL):
    path = folder / "setup.xml"
    path.write_text(form.format(tasks=tasks, settings=settings))
    return read_ik_setup(path)


def test_markers_that_apply_with_their_weights(tmp_path):
    tasks = read(tmp_path, MARKERS)
    assert tasks.marker_weights == {"A": 2.5, "C": 4.0, "D": 0.0}
    assert tasks.weights(["C", "Z", "B", "A"]).tolist() == [4.0, 0.0, 0.0, 2.5]


def test_a_task_set_without_markers_weighs_all_the_same(tmp_path):
    assert read(tmp_path, task()).weights(["A", "B"]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "expected"), [("manual_value", 0.25), ("default_value", None), ("", None)]
)
def test_value_of_a_coordinate_task(tmp_path, kind, expected):
    (found,) = read(tmp_path, task(kind=kind) + task("hip", apply="false")).coordinate_tasks
    assert (found.name, found.weight, found.value) == ("knee", 3.0, expected)


def test_settings_and_their_defaults(tmp_path):
    settings = """<accuracy>1e-005</accuracy><constraint_weight>20</constraint_weight>
    <time_range> 0.4 1.6</time_range><marker_file>../walk.trc</marker_file>
    <model_file>Unassigned</model_file>"""
    given = read(tmp_path, MARKERS, settings)
    assert (given.accuracy, given.constraint_weight) == (1e-5, 20.0)
    assert given.time_range == (0.4, 1.6)
    assert given.marker_file == tmp_path / ".." / "walk.trc"
    assert given.model_file is None
    assert read(tmp_path, MARKERS).time_range == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("span", "expected"),
    [((0.04, 0.14), [0, 1]), ((0.06, 0.16), [1, 2]), ((-1.0, 0.049), [0]), ((0.1, 9.0), [1, 2])],
)
def test_frames_are_those_opensims_tool_solves(span, expected):
    chosen = IKTasks(marker_weights={}, time_range=span).frames(np.array([0.0, 0.1, 0.2]))
    assert np.flatnonzero(chosen).tolist() == expected


def test_a_bare_task_set_and_one_in_a_file_of_its_own(tmp_path):
    bare = read(tmp_path, MARKERS + task(), form=BARE)
    (tmp_path / "setup.xml").rename(tmp_path / "tasks.xml")
    path = tmp_path / "outer.xml"
    path.write_text(
        '<InverseKinematicsTool name="t"><IKTaskSet file="tasks.xml"/></InverseKinematicsTool>'
    )
    assert bare.marker_weights == read_ik_setup(path).marker_weights != {}
    assert [t.name for t in read_ik_setup(path).coordinate_tasks] == ["knee"]


def test_values_from_a_file_are_radians_and_interpolated(tmp_path):
    times = np.linspace(0.0, 1.0, 21)
    angle = np.sin(3.0 * times)
    write_mot(tmp_path / "c.mot", ["knee"], angle[:, None], times, np.array([True]))
    setup = "<coordinate_file>c.mot</coordinate_file>"
    tasks = read(tmp_path, task(kind="from_file") + task("hip"), setup)
    between = np.array([0.11, 0.5, 0.77])
    knee, hip = tasks.at(between)
    np.testing.assert_allclose(knee.value, np.sin(3.0 * between), atol=1e-5)
    assert hip.value == 0.25
    with pytest.raises(InvalidInputError, match=r"span 0 to 1\.5 s"):
        tasks.at(np.array([0.0, 1.5]))


def test_interpolates_as_opensim_does(tmp_path):
    opensim = pytest.importorskip("opensim")
    times = np.array([0.0, 0.1, 0.25, 0.3, 0.42, 0.5, 0.66, 0.7, 0.9])
    values = np.random.default_rng(0).normal(size=len(times))
    tasks = IKTasks(
        marker_weights={},
        coordinate_tasks=(CoordinateTask(name="knee", weight=1.0, value=values),),
        value_times=times,
    )
    table = opensim.TimeSeriesTable()
    table.setColumnLabels(["knee"])
    for time, value in zip(times, values, strict=True):
        table.appendRow(float(time), opensim.RowVector(1, float(value)))
    splines = opensim.GCVSplineSet(table, opensim.StdVectorString(), 5)
    spline = splines.get(0)
    at = np.linspace(0.0, 0.9, 31)
    theirs = [spline.calcValue(opensim.Vector(1, float(t))) for t in at]
    np.testing.assert_allclose(tasks.at(at)[0].value, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("tasks", "settings", "message"),
    [
        (task(weight="heavy"), "", "<weight> of 'knee' is 'heavy'"),
        (task(weight="-1"), "", "<weight> of 'knee' is -1"),
        (task(apply="maybe"), "", "<apply> of 'knee' is 'maybe'"),
        (task(value="0 0"), "", "<value> of 'knee' is '0 0'"),
        (task() + task(), "", "two <IKCoordinateTask> named knee"),
        ("<IKMarkerTask><weight>1</weight></IKMarkerTask>", "", "has no name"),
        (MARKERS, "<time_range>1</time_range>", "<time_range> of 'trial' is '1'"),
        (task(kind="from_file"), "", "no <coordinate_file> is named"),
        (task(kind="from_file"), "<coordinate_file>x.mot</coordinate_file>", "x.mot"),
        ("<IKMarkerTask", "", "is not XML"),
    ],
)
def test_what_is_malformed_is_named(tmp_path, tasks, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        read(tmp_path, tasks, settings)


def test_unknown_names(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'manual_value'"):
        read(tmp_path, task(kind="manual_valu"))
    write_mot(tmp_path / "c.mot", ["hip"], np.zeros((9, 1)), np.arange(9.0), np.array([True]))
    with pytest.raises(UnknownNameError, match="'knee'"):
        read(tmp_path, task(kind="from_file"), "<coordinate_file>c.mot</coordinate_file>")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="holds <ScaleTool>"):
        read(tmp_path, "", form="<OpenSimDocument><ScaleTool/></OpenSimDocument>")
    with pytest.raises(InvalidInputError, match="has no <IKTaskSet>"):
        read(tmp_path, "", form="<InverseKinematicsTool/>")
    with pytest.raises(InvalidInputError, match="No such file"):
        read_ik_setup(tmp_path / "nowhere.xml")


@pytest.mark.parametrize("value", [np.nan, np.array([0.0, np.inf]), np.zeros((2, 2))])
def test_a_task_refuses_values_that_mean_nothing(value):
    with pytest.raises(InvalidInputError, match="'knee'"):
        CoordinateTask(name="knee", weight=1.0, value=value)


def test_opensims_own_setup_files():
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there")
    gait = read_ik_setup(SHARED / "gait2354" / "subject01_Setup_IK.xml")
    assert gait.marker_weights["R.ASIS"] == 10.0
    locks = {t.name: (t.weight, t.value) for t in gait.coordinate_tasks}
    assert locks["mtp_angle_l"] == (1000.0, None)
    assert gait.time_range == (0.4, 1.6)
    walk = read_ik_setup(SHARED / "rajagopal" / "ik_setup_walk.xml")
    assert "R.Biceps" not in walk.marker_weights
    assert walk.marker_weights["R.PSIS"] == 40.0
    assert walk.coordinate_tasks == ()
