"""Scale factors, grouped rejects, storage and stills: the parts of the report."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from d3ke_platform.pipelines.ray_data import reject_row
from d3ke_platform.quality.pose_drawing import spread_upwards
from d3ke_platform.quality.reject_groups import group_rejects
from d3ke_platform.quality.scale_factors import factors_of, find_outliers, left_and_right
from d3ke_platform.quality.trial_pictures import facing
from d3ke_platform.quality.video_still import frame_and_row

NAMES = ("pelvisX", "femurY", "femurY_l", "Arm_l_Y", "ArmY", "torso_long")


def factors(subjects: int = 12) -> tuple[tuple[str, ...], np.ndarray]:
    """People of different size and, within 1 %, the same shape."""
    random = np.random.default_rng(0)
    shape = np.array([0.8, 1.0, 1.0, 0.9, 0.9, 1.3])
    size = np.linspace(0.75, 1.2, subjects)[:, None]
    noise = 1 + random.uniform(-0.01, 0.01, (subjects, len(NAMES)))
    return tuple(f"s{n}" for n in range(subjects)), size * shape * noise


def test_left_factors_find_their_right_ones() -> None:
    assert left_and_right(NAMES) == {2: 1, 3: 4}
    assert left_and_right(("femur_l x", "femur_r x", "lumbar_l5")) == {0: 1}


def test_people_of_all_sizes_are_no_outliers() -> None:
    subjects, values = factors()
    assert find_outliers(subjects, NAMES, values) == {}


def test_an_odd_shape_is_an_outlier_of_its_subject_alone() -> None:
    subjects, values = factors()
    values[4, 0] *= 1.3
    found = find_outliers(subjects, NAMES, values)
    assert list(found) == ["s4"]
    assert list(found["s4"]) == ["pelvisX"]
    assert "against other subjects" in found["s4"]["pelvisX"]


def test_two_different_legs_are_told() -> None:
    subjects, values = factors()
    values[4, 1] *= 1.08
    values[4, 2] /= 1.08
    assert "other side" in find_outliers(subjects, NAMES, values)["s4"]["femurY_l"]


@pytest.mark.parametrize("subjects", [1, 2, 12])
@pytest.mark.parametrize("wrong", [1000.0, 0.001, np.nan])
def test_mixed_up_units_are_no_persons_size(subjects: int, wrong: float) -> None:
    names, values = factors(subjects)
    values[0] *= wrong
    found = find_outliers(names, NAMES, values)
    assert set(found) == {"s0"}
    assert all("not a person's size" in text for text in found["s0"].values())


def test_reasons_that_differ_in_names_and_numbers_are_one_row() -> None:
    rejects = [
        reject_row(f"s{n}", "label", f"data/trials/s{n}.trc: line {n + 3} has 1.{n} values")
        for n in range(5)
    ] + [reject_row("s9", "label", "another reason"), reject_row("s1", "crop", "another reason")]
    rows = group_rejects(rejects)
    assert [(row["stage"], row["count"]) for row in rows] == [
        ("label", 5),
        ("crop", 1),
        ("label", 1),
    ]
    assert rows[0]["items"] == ["s0", "s1", "s2"]
    assert rows[0]["reason"] == "data/trials/s0.trc: line 3 has 1.0 values"
    assert group_rejects([]) == []


@pytest.mark.parametrize(
    ("start_s", "row", "expected"),
    [
        (0.0, 0, (0, 0)),
        # 30 Hz video of 120 Hz labels: row 10 is between frames 2 and 3, which are rows 8 and 12.
        (0.0, 11, (3, 12)),
        (0.5, 100, (10, 100)),
        # The video begins after the row, or ends before it: the nearest there is.
        (0.5, 10, (0, 60)),
        (0.0, 239, (29, 116)),
    ],
)
def test_the_frame_of_a_label_row(start_s: float, row: int, expected: tuple[int, int]) -> None:
    recording = {"start_s": start_s, "fps": 30.0, "frame_count": 30}
    assert frame_and_row(recording, 5.0 + np.arange(240) / 120.0, row) == expected


@pytest.mark.parametrize("turn_deg", [0.0, 40.0, 180.0, -100.0])
def test_the_views_turn_with_the_pelvis(turn_deg: float) -> None:
    angle, tilt = np.radians(turn_deg), np.radians(30.0)
    about_y = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    about_z = np.array(
        [[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]]
    )
    turned = facing(about_y @ about_z) @ about_y @ about_z
    assert turned == pytest.approx(about_z)


def test_a_pelvis_that_points_up_is_not_turned() -> None:
    upwards = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert facing(upwards) == pytest.approx(np.eye(3))


def test_names_in_a_picture_do_not_cover_each_other() -> None:
    assert spread_upwards([0.0, 0.01, 0.5, 0.52], 0.1) == pytest.approx([0.0, 0.1, 0.5, 0.6])


def test_without_measurements_the_scaled_body_axes_are_shown() -> None:
    bodies = SimpleNamespace(bodies=("pelvis", "femur_r"))
    data = SimpleNamespace(measurements=lambda: SimpleNamespace(names=()), skeleton=lambda: bodies)
    scales = np.ones((2, 3))
    scales[1, 1] = 1.1
    rows = [{"body_scales": np.ones((2, 3))}, {"body_scales": scales}]
    names, values = factors_of(data, rows)
    assert names == ("femur_r y",)
    assert values.tolist() == [[1.0], [1.1]]
