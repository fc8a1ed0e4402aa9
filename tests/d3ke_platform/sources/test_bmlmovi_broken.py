"""BML-MoVi downloads that are broken or contradict themselves."""

from __future__ import annotations

from pathlib import Path

import bmlmovi_files as made_up
import numpy as np
import pytest
from bmlmovi_files import source, units_of

from d3ke.errors import InvalidInputError
from d3ke_platform.errors import UsageError

WALK, THROW = made_up.MOTIONS


def test_broken_material_rejects_what_belongs_to_it(copy: Path, tmp_path: Path) -> None:
    """One motion, one subject and one video are broken; everything else is made."""
    made_up.shorten(made_up.amass_path(copy, 1, 2), 500)
    made_up.shorten(made_up.v3d_path(copy, 2), 300)
    made_up.shorten(made_up.video_path(copy, 14, "PG1"), 100)
    maker = source(copy)
    plan = maker.plan(tmp_path)
    made, rejected = {}, {}
    for unit in sorted(plan.units, key=lambda unit: unit.get("phase", 0)):
        try:
            made[unit["unit"]] = maker.make(unit, tmp_path)
        except InvalidInputError as error:
            rejected[unit["unit"]] = str(error)
    assert set(rejected) == {"s001_02_throwing_catching", "s002", "s014_video_PG1"}
    assert "Subject_1_F_2_poses.npz" in rejected["s001_02_throwing_catching"]
    assert "F_v3d_Subject_2.mat" in rejected["s002"]
    assert "F_PG1_Subject_14_L.avi" in rejected["s014_video_PG1"]
    assert [row["camera"] for row in made["s001_01_walking"].recordings] == ["PG1", "PG2"]
    assert [row["camera"] for row in made["s014_01_walking"].recordings] == ["PG2"]
    assert {row["subject"] for row in plan.subjects} == {"s001", "s014"}


def test_motions_that_do_not_belong_together_are_rejected(copy: Path, tmp_path: Path) -> None:
    """A motion of another length than its part of the video; 100 samples a second."""
    first, second = (made_up.amass_path(copy, 1, k) for k in (1, 2))
    for path in (first, second):
        path.unlink()
    made_up.write_amass(first, made_up.MadeUpMotion("walking", 300), made_up.shape_of(1))
    made_up.write_amass(second, THROW, made_up.shape_of(1), mocap_framerate=np.array(100.0))
    maker = source(copy, subjects=(1,))
    units = units_of(maker, tmp_path, "s001")
    with pytest.raises(InvalidInputError, match=r"lasts 2.5 s, its part of the videos 0.5 s"):
        maker.make(units[3], tmp_path)
    with pytest.raises(InvalidInputError, match="has 100 samples a second, not 120"):
        maker.make(units[4], tmp_path)


def test_a_shape_of_the_other_sex_is_rejected(copy: Path, tmp_path: Path) -> None:
    """Shape coefficients mean another body with the other model; neutral says nothing."""
    path = made_up.amass_path(copy, 1, 1)
    path.unlink()
    made_up.write_amass(path, WALK, made_up.shape_of(1), gender=np.array(b"male"))
    maker = source(copy, subjects=(1,))
    units = units_of(maker, tmp_path, "s001")
    with pytest.raises(InvalidInputError, match="with the male body model.*says female"):
        maker.make(units[3], tmp_path)
    report = source(copy).check()
    assert report.found["motions"] == 5
    assert sum("with the male body model" in text for text in report.problems) == 1


def test_motions_that_one_file_lacks_are_named(copy: Path, tmp_path: Path) -> None:
    made_up.amass_path(copy, 1, 1).unlink()
    made_up.write_amass(made_up.amass_path(copy, 2, 3), WALK, made_up.shape_of(2))
    maker = source(copy)
    report = maker.check()
    assert report.missing["amass_motions"] == "1: 1"
    assert report.missing["v3d_motions"] == "2: 3"
    assert report.found["motions"] == 5
    names = {unit["unit"] for unit in maker.plan(tmp_path).units}
    assert "s001_02_throwing_catching" in names
    assert not {"s001_01_walking", "s002_03_walking"} & names


def test_a_video_at_another_rate_or_too_short_is_rejected(copy: Path, tmp_path: Path) -> None:
    fast, short = (made_up.video_path(copy, 1, camera) for camera in ("PG1", "PG2"))
    pictures = [np.zeros((600, 800, 3), np.uint8)] * 20
    for path, fps in ((fast, 25), (short, 30)):
        path.unlink()
        made_up.write_video(path, pictures, fps=fps)
    maker = source(copy, subjects=(1,))
    units = units_of(maker, tmp_path, "s001")
    with pytest.raises(InvalidInputError, match="has 25 frames per second.*count 30"):
        maker.make(units[1], tmp_path)
    for unit in (units[0], units[2]):
        maker.make(unit, tmp_path)
    walking = maker.make(units[3], tmp_path)
    assert [(r["camera"], r["frame_count"]) for r in walking.recordings] == [("PG2", 13)]
    with pytest.raises(InvalidInputError, match="no camera shows it.*has 20 frames.*begins at"):
        maker.make(units[4], tmp_path)
    problems = source(copy).check().problems
    assert any("25 frames per second" in text for text in problems)
    assert any("has 20 frames, the last motion ends at frame 36" in text for text in problems)


def test_nothing_usable_is_said_at_plan_time(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing of BML-MoVi can be used. Run again with --check"):
        source(tmp_path).plan(tmp_path / "out")
