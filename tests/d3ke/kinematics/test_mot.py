"""Motion files: degrees in the file, radians inside."""

from __future__ import annotations

import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke.kinematics import read_mot, write_mot

NAMES = ("knee_angle_r", "pelvis_ty")
VALUES = np.array([[np.pi / 2, 0.9], [-0.25, 1.0]])
TIMES = np.array([0.0, 0.1])


def test_write_then_read_and_degrees_in_the_file(tmp_path):
    path = tmp_path / "a.mot"
    write_mot(path, NAMES, VALUES, TIMES, np.array([True, False]))
    read = read_mot(path)
    assert read.names == NAMES
    np.testing.assert_allclose(read.values, VALUES, atol=1e-9)
    np.testing.assert_allclose(read.times, TIMES)
    first = path.read_text().splitlines()[7].split()
    np.testing.assert_allclose([float(cell) for cell in first], [0.0, 90.0, 0.9])


def test_opensim_reads_the_file(tmp_path):
    from d3ke.kinematics.opensim_library import load_opensim

    write_mot(tmp_path / "a.mot", NAMES, VALUES, TIMES, np.array([True, False]))
    table = load_opensim().TimeSeriesTable(str(tmp_path / "a.mot"))
    assert tuple(table.getColumnLabels()) == NAMES
    assert table.getTableMetaDataString("inDegrees") == "yes"
    np.testing.assert_allclose(table.getDependentColumn("knee_angle_r").to_numpy()[0], 90.0)


def test_opensims_comment_about_degrees_is_not_taken_for_the_setting(tmp_path):
    text = (
        "Coordinates\nversion=1\nnRows=1\nnColumns=3\ninDegrees=yes\n\n"
        "Units are S.I. units (second, meters, Newtons, ...)\n"
        "If the header above contains a line with 'inDegrees', this indicates whether rotational "
        "values are in degrees (yes) or radians (no). Not set: inDegrees=no\n\n"
        "endheader\ntime\thip\tpelvis_tx\n0\t180\t2\n"
    )
    (tmp_path / "a.mot").write_text(text)
    np.testing.assert_allclose(read_mot(tmp_path / "a.mot").values, [[np.pi, 2.0]])
    (tmp_path / "a.mot").write_text(text.replace("\ninDegrees=yes\n", "\ninDegrees=no\n"))
    np.testing.assert_allclose(read_mot(tmp_path / "a.mot").values, [[180.0, 2.0]])


def test_lengths_can_be_named(tmp_path):
    write_mot(tmp_path / "a.mot", ("slide",), np.array([[0.3]]), np.zeros(1), np.array([False]))
    assert read_mot(tmp_path / "a.mot", translational=["slide"]).values[0, 0] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("time a\n0 1\n", "endheader"),
        ("inDegrees=yes\nendheader\ntime a\n", "no rows"),
        ("endheader\ntime a\n0 x\n", "table of numbers"),
        ("endheader\ntime a\n0 1 2\n", "2 columns"),
    ],
)
def test_unusable_files_are_refused_with_the_reason(tmp_path, text, reason):
    (tmp_path / "bad.mot").write_text(text)
    with pytest.raises(InvalidInputError, match=reason):
        read_mot(tmp_path / "bad.mot")


def test_values_must_fit_names_and_times(tmp_path):
    with pytest.raises(InvalidInputError, match="do not fit"):
        write_mot(tmp_path / "a.mot", NAMES, VALUES[:, :1], TIMES, np.array([True, False]))
