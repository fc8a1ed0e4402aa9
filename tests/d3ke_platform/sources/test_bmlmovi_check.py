"""The check of a BML-MoVi download, before hours are spent on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bmlmovi_files as made_up
import pytest
from bmlmovi_files import source

from d3ke_platform import cli
from d3ke_platform.errors import UsageError
from d3ke_platform.pipelines.prepare_check import check_input
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.sources.bmlmovi import BMLMoViSource

ROOT = Path(__file__).resolve().parents[3]


def test_check_of_a_whole_download_of_three(download: Path) -> None:
    began = time.perf_counter()
    report = source(download).check()
    assert time.perf_counter() - began < 5.0
    assert report.usable
    assert report.found == {
        "subjects": 3,
        "train_subjects": 1,
        "validation_subjects": 1,
        "test_subjects": 1,
        "motions": 6,
        "videos": 6,
        "v3d": 3,
        "amass": 6,
        "body_models": 2,
        "cameras": 2,
    }
    assert report.missing["v3d"] == "3-6, 8-9, 11, 13, 15-25, 27-90"
    assert set(report.missing) == {"videos_PG1", "videos_PG2", "v3d", "amass"}
    assert len(report.get) == 3
    assert (report.problems, report.skipped) == ([], {})


def _without(pattern: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        paths = list(folder.rglob(pattern))
        assert paths
        for path in paths:
            path.unlink()

    return remove


@pytest.mark.parametrize(
    ("damage", "kind", "what", "skipped", "where"),
    [
        (_without("F_PG*"), "videos_PG1", "1-6", "no video of PG1 or PG2", "F_PG1_Subject_<id>_L"),
        (_without("F_v3d*"), "v3d", "1-6", "no Visual3D file", "F_Subjects_1_45.tar"),
        (_without("*_poses.npz"), "amass", "1-6", "no AMASS file", "AMASS .amass.is.tue.mpg.de"),
        (_without("smplh/*/*.npz"), "body_models", "female, male", "no SMPL-H model", "extended"),
        (_without("Extr*"), "cameras", "Extrinsics_PG1", "no camera parameters", "Camera Param"),
    ],
)
def test_check_names_what_is_missing_and_where_to_get_it(
    copy: Path, damage: Callable[[Path], None], kind: str, what: str, skipped: str, where: str
) -> None:
    damage(copy)
    report = source(copy).check()
    assert not report.usable
    assert what in report.missing[kind]
    assert any(reason.startswith(skipped) for reason in report.skipped)
    assert sum(where.split(" .")[0] in text for text in report.get) == 1


def test_known_gaps_are_not_missing(copy: Path) -> None:
    """Subject 7 has no published video, subject 12 is in no split: neither is asked for."""
    for subject in (7, 12):
        made_up.write_amass(made_up.amass_path(copy, subject, 1), made_up.MOTIONS[0], [0.0])
        made_up.write_v3d(made_up.v3d_path(copy, subject), subject, "male", made_up.MOTIONS)
    report = source(copy).check()
    assert report.skipped == {
        "no video was published": "7",
        "in none of the paper's splits": "12",
    }
    assert "7" not in report.missing["videos_PG1"].split(", ")
    assert report.found["subjects"] == 3


def test_check_counts_what_the_rest_gives(copy: Path) -> None:
    """A broken calibration, motion and subject each take only what hangs on them."""
    made_up.shorten(copy / "Calib/Extrinsics_PG2.npz", 50)
    made_up.shorten(made_up.amass_path(copy, 1, 1), 500)
    made_up.shorten(made_up.v3d_path(copy, 2), 300)
    report = source(copy).check()
    assert report.usable
    assert (report.found["subjects"], report.found["motions"]) == (2, 3)
    for name in ("Extrinsics_PG2.npz", "Subject_1_F_1_poses.npz", "F_v3d_Subject_2.mat"):
        assert sum(name in problem for problem in report.problems) == 1
    only = source(copy, cameras=("PG2",)).check()
    assert not only.usable


def test_check_command(download: Path) -> None:
    """Exit status 0 when something is usable, 1 when nothing is, 2 without a folder; no Ray."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    job = [sys.executable, str(ROOT / "jobs/prepare.py"), "--source", "bmlmovi", "--check"]
    done = subprocess.run(
        [*job, "--input", str(download)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["status"], last["usable"]) == (0, "done", True)
    assert (last["found"]["motions"], last["missing"]["v3d"][:3]) == (6, "3-6")
    assert "missing videos_PG1: 3-6, 8-9" in done.stderr
    assert "get BML-MoVi" in done.stderr


def run_check(folder: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    arguments = ["--source", "bmlmovi", "--input", str(folder), "--check"]
    code = cli.run_job(check_input, PrepareSettings, job="prepare", argv=arguments)
    return code, json.loads(capfd.readouterr().out.splitlines()[-1])


def test_check_command_fails_when_nothing_is_usable(
    copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _without("F_v3d*")(copy)
    code, last = run_check(copy, capfd)
    assert (code, last["status"], last["usable"]) == (1, "failed", False)
    assert last["skipped"] == {"no Visual3D file": "1-2, 14"}
    code, last = run_check(tmp_path / "none", capfd)
    assert (code, last["status"]) == (2, "bad usage")
    assert "no such folder" in last["error"]


def test_settings_of_the_job() -> None:
    with pytest.raises(UsageError, match="--source bmlmovi needs --input"):
        PrepareSettings(source="bmlmovi", output="x")
    with pytest.raises(UsageError, match="--output is missing"):
        PrepareSettings(source="bmlmovi", input="x")
    with pytest.raises(UsageError, match="the source synthetic has no such check"):
        check_input(PrepareSettings(check=True))
    settings = PrepareSettings(source="bmlmovi", input="x", output="y")
    assert settings.identity()["bmlmovi"]["label_rate_hz"] == 30.0
    assert isinstance(settings.build_source(), BMLMoViSource)
