"""The demo recording: taken out of a wheel once, errors that say what is wrong."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from d3ke.errors import InvalidInputError
from d3ke_platform.sources import pose2sim_demo


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "pose2sim-0.10.49-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for camera in pose2sim_demo.CAMERAS:
            archive.writestr(f"Pose2Sim/Demo_SinglePerson/videos/{camera}.mp4", camera)
        archive.writestr("Pose2Sim/Demo_SinglePerson/calibration/Calib.qca.txt", "<x/>")
        archive.writestr("pose2sim-0.10.49.dist-info/licenses/LICENSE", "BSD")
    return path


def test_files_are_extracted_once(wheel: Path, tmp_path: Path) -> None:
    folder = pose2sim_demo.fetch(tmp_path / "demo", wheel=wheel)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        *("Calib.qca.txt", "LICENSE-pose2sim.txt"),
        *("cam01.mp4", "cam02.mp4", "cam03.mp4", "cam04.mp4"),
    ]
    assert (folder / "cam03.mp4").read_text() == "cam03"
    # Complete: neither a wheel nor the network is needed any more.
    assert pose2sim_demo.fetch(folder, wheel=tmp_path / "gone.whl") == folder


def test_something_else_is_not_the_wheel(tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    other.write_bytes(b"no zip")
    with pytest.raises(InvalidInputError, match="not the wheel"):
        pose2sim_demo.fetch(tmp_path / "demo", wheel=other)


def test_without_network_the_reason_is_pips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: no connection")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(InvalidInputError, match=r"no connection.*network connection once"):
        pose2sim_demo.fetch(tmp_path / "demo")
