"""Wrong names, units, axes and gaps of marker files, each named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke.kinematics import MarkerTrajectories, read_trc
from d3ke.kinematics.axes import UP_AXES, ground_from_axes
from d3ke.kinematics.marker_checks import (
    ModelMarkers,
    check_gaps,
    check_names,
    check_size,
    check_up,
    find_up,
    gap_report,
    gaps,
    is_mirrored,
    near_misses,
    size_ratio,
    zeros_as_gaps,
)
from d3ke.skeleton import Skeleton

GAIT = Path(__file__).parents[4] / "shared" / "opensim-models" / "gait2354"
NAMES = ("RASI", "LASI", "SACR", "STRN", "HEAD", "RHEE", "LHEE", "RTOE")
PLACES = np.array(
    [
        [0.1, 1.0, 0.13],
        [0.1, 1.0, -0.13],
        [-0.1, 1.02, 0.0],
        [0.12, 1.35, 0.0],
        [0.0, 1.75, 0.0],
        [-0.05, 0.05, 0.1],
        [-0.05, 0.05, -0.1],
        [0.2, 0.05, 0.1],
    ]
)
MODEL = ModelMarkers(names=NAMES, positions=PLACES, trunk=np.arange(8) < 5)


def standing(frames: int = 5, names: tuple[str, ...] = NAMES) -> MarkerTrajectories:
    """A person turned a quarter, elsewhere, moving a little."""
    quarter = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    wobble = np.random.default_rng(1).normal(scale=0.005, size=(frames, 8, 3))
    positions = PLACES @ quarter.T + [2.0, 0.0, -1.0] + wobble
    times = np.arange(frames) / 100.0
    return MarkerTrajectories(names=names, positions=positions, times=times, rate_hz=100.0)


@pytest.mark.parametrize(
    ("measured", "model", "expected"),
    [
        (("R.ASIS",), ("RASIS",), {"R.ASIS": "RASIS"}),
        (("r_asis", "L.ASIS"), ("R.ASIS", "L.ASIS"), {"r_asis": "R.ASIS"}),
        (("subject1:RASI",), ("RASI",), {"subject1:RASI": "RASI"}),
        (("R.ASI",), ("R.ASIS",), {"R.ASI": "R.ASIS"}),
        # Another side, another number, or a counterpart that is there already.
        (("L.Knee",), ("R.Knee",), {}),
        (("R.TH1",), ("R.TH2",), {}),
        (("R.Knee", "R.Kneee"), ("R.Knee",), {}),
        (("R.Elbow",), ("R.Ankle",), {}),
    ],
)
def test_near_misses(measured, model, expected):
    assert near_misses(measured, model) == expected


def test_a_misspelt_marker_is_refused_with_the_name_on_the_model():
    names = ("R.ASIS", *NAMES[1:])
    with pytest.raises(InvalidInputError, match=r"trial a.*'R\.ASIS' \(model: 'RASI'\)"):
        check_names("trial a", names, NAMES)
    check_names("trial a", ("extra", *NAMES[2:]), NAMES)  # more and fewer are both fine


def test_markers_of_another_set_are_refused_with_both_lists():
    with pytest.raises(InvalidInputError, match=r"0 of its markers.*x1, x2.*model: RASI"):
        check_names("trial a", ("x1", "x2"), NAMES)


@pytest.mark.parametrize(
    ("factor", "mistake"),
    [
        (1e3, "mm read as m"),
        (1e-3, "m read as mm"),
        (10.0, "mm read as cm"),
        (0.1, "cm read as mm"),
    ],
)
def test_a_mistaken_unit_is_found_by_the_size_of_the_body(factor, mistake):
    mistaken = replace(standing(), positions=standing().positions * factor)
    with pytest.raises(InvalidInputError, match=rf"{mistake}, a factor of {factor:g}"):
        check_size("trial a", mistaken, MODEL)


@pytest.mark.parametrize("size", [0.45, 1.0, 1.3])
def test_children_and_tall_people_are_no_mistake(size):
    person = replace(standing(), positions=standing().positions * size)
    assert size_ratio(person, MODEL) == pytest.approx(size, rel=0.02)
    check_size("trial a", person, MODEL)


@pytest.mark.parametrize("up", UP_AXES)
def test_the_axis_that_points_up_is_found(up):
    turned = replace(standing(), positions=standing().positions @ ground_from_axes(up))
    assert find_up(turned, MODEL) == up
    if up == "y":
        check_up("trial a", turned, MODEL)
    else:
        with pytest.raises(InvalidInputError, match=rf"trunk points along {up}.*up_axis='{up}'"):
            check_up("trial a", turned, MODEL)


def test_a_bent_trunk_says_nothing_about_the_axis():
    half = np.sqrt(0.5)
    bent = np.array([[half, half, 0.0], [-half, half, 0.0], [0.0, 0.0, 1.0]])
    assert find_up(replace(standing(), positions=standing().positions @ bent.T), MODEL) == ""


@pytest.mark.parametrize("flip", [[1, 1, -1], [-1, 1, 1]])
def test_left_handed_axes_are_refused(flip):
    with pytest.raises(InvalidInputError, match="left-handed"):
        check_up("a", replace(standing(), positions=standing().positions * flip), MODEL)


@pytest.mark.skipif(not GAIT.is_dir(), reason="../shared/opensim-models is not here")
@pytest.mark.parametrize("trial", ["subject01_static.trc", "subject01_walk1.trc"])
def test_a_recorded_person_stands_in_ground(trial):
    model = ModelMarkers.of(Skeleton.from_osim(GAIT / "reference_subject01_simbody.osim"))
    measured = read_trc(GAIT / trial)
    check_names(trial, measured.names, model.names)
    check_up(trial, measured, model)
    assert size_ratio(measured, model) == pytest.approx(1.0, abs=0.05)
    assert {"Sternum", "R.ASIS"} <= {
        n for n, on in zip(model.names, model.trunk, strict=True) if on
    }
    assert is_mirrored(replace(measured, positions=measured.positions * [1, 1, -1]), model)


def test_gaps_are_told_by_marker():
    person = standing(frames=10)
    person.positions[2:5, 0] = np.nan
    person.positions[7, 0] = np.nan
    person.positions[9, 3, 1] = np.nan
    worst, other = gaps(person)
    assert (worst.marker, worst.share, worst.longest_s) == ("RASI", 0.4, pytest.approx(0.03))
    assert (other.marker, other.share) == ("STRN", 0.1)
    assert gap_report(person).startswith("RASI 40.0 % (longest 0.03 s), STRN 10.0 %")
    assert gap_report(standing()) == ""
    check_gaps("trial a", person, most=0.1)
    with pytest.raises(InvalidInputError, match=r"6 % of its marker positions.*RASI 40\.0 %"):
        check_gaps("trial a", person, most=0.01)


def test_zeros_stand_for_gaps():
    person = standing()
    person.positions[1, 2] = 0.0
    assert np.isnan(zeros_as_gaps(person).positions[1, 2]).all()
    assert np.isfinite(zeros_as_gaps(person).positions[0]).all()
