"""A user's own motion capture as movements: joint angles from files, performed by any body.

Two formats are read: OpenSim's .mot (coordinate names of gait2354 and Rajagopal's model), and the
motion files of DeepMimic, which an installed pybullet brings along. No clip is part of this
project: where DeepMimic's come from is not known, and most mocap may not be passed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

from d3ke.errors import InvalidInputError
from d3ke_platform.sources.clip_formats import read_deepmimic, read_opensim
from d3ke_platform.sources.motions import Motion, MotionStyle, place_in_room, small_joints

PREFIX = "clip_"
READERS = {".mot": read_opensim, ".sto": read_opensim, ".txt": read_deepmimic}
SHORTEST_S = 0.4
_MIRROR = np.diag([1.0, 1.0, -1.0])
_SETTLED_M = 0.02
"""A pelvis that is so much higher than standing on the floor makes it has not left it."""


@dataclass(frozen=True, kw_only=True)
class ClipFile:
    """A file of motion capture that has been looked at."""

    movement: str
    """Name of the movement it is performed as."""
    path: Path
    seconds: float


def find_clips(places: Sequence[str]) -> tuple[list[ClipFile], dict[str, str]]:
    """Clips of files and folders, in their order; and why files of a folder are left out.

    Raises InvalidInputError for a place that does not exist, a named file that is no clip, a
    folder without any, and two clips of one name.
    """
    found: dict[str, ClipFile] = {}
    left_out: dict[str, str] = {}
    for place in map(Path, places):
        if not place.exists():
            raise InvalidInputError(f"clip {place}", "there is no such file or folder")
        files = [place] if place.is_file() else sorted(place.iterdir())
        count = len(found)
        for file in files:
            if place.is_dir() and file.suffix not in READERS:
                continue
            try:
                clip = _examined(file)
            except InvalidInputError as error:
                if place.is_file():
                    raise
                left_out[str(file)] = str(error)
                continue
            if clip.movement in found:
                other = found[clip.movement].path
                raise InvalidInputError(f"clip {file}", f"{other} has the same name; rename one")
            found[clip.movement] = clip
        if len(found) == count:
            reasons = next(iter(left_out.values()), f"none ends in {', '.join(READERS)}")
            raise InvalidInputError(f"clip folder {place}", f"holds no motion file ({reasons})")
    return list(found.values()), left_out


def perform_clip(
    clip: ClipFile,
    *,
    rate_hz: float,
    seconds: float,
    style: MotionStyle,
    rng: np.random.Generator,
    fine: bool,
) -> Motion:
    """One performance of a clip: at the person's speed, mirrored by chance, at most `seconds` long.

    The way over the floor is left out: it follows from the body's feet. `fine`: wrists, forearms
    and toes, of which clips say nothing, move a little.
    """
    times, rotations, heights = _read(clip.path)
    mirrored, speed = bool(rng.random() < 0.5), style.speed * rng.uniform(0.95, 1.05)
    length = min((times[-1] - times[0]) / speed, seconds)
    start = times[0] + rng.uniform(0.0, times[-1] - times[0] - length * speed)
    steps = np.arange(max(2, round(length * rate_hz))) / rate_hz
    at = np.clip(start + steps * speed, times[0], times[-1])
    turned = {
        name: Slerp(times, Rotation.from_matrix(rotation))(at).as_matrix()
        for name, rotation in rotations.items()
    }
    turned = _mirrored(turned) if mirrored else turned
    position = place_in_room(steps, rng)
    if heights is not None:
        position[:, 1] = np.interp(at, times, heights)
    return Motion(
        segment_rotations=turned | (small_joints(steps, rng) if fine else {}),
        root_position=position,
        clearance=np.zeros(len(steps)),
        times=steps,
        measured_height=heights is not None,
    )


def flight(
    measured: Float[np.ndarray, "T"], standing: Float[np.ndarray, "T"]
) -> Float[np.ndarray, "T"]:
    """Height above the floor, m, of a body whose pelvis was measured at heights `measured`, and is
    at `standing` when every frame stands on the floor."""
    scaled = measured * (np.median(standing) / np.median(measured))
    higher = scaled - standing
    return np.maximum(higher - np.percentile(higher, 25.0) - _SETTLED_M, 0.0)


def _read(
    path: Path,
) -> tuple[np.ndarray, Mapping[str, np.ndarray], np.ndarray | None]:
    if path.suffix not in READERS:
        raise InvalidInputError(f"clip {path}", f"its name must end in {', '.join(READERS)}")
    times, rotations, heights = READERS[path.suffix](path)
    if len(times) < 3 or times[-1] - times[0] < SHORTEST_S:
        raise InvalidInputError(f"clip {path}", f"it is shorter than {SHORTEST_S} s")
    if not (np.diff(times) > 0).all():
        raise InvalidInputError(f"clip {path}", "its times do not grow")
    return times, rotations, heights


def _examined(path: Path) -> ClipFile:
    times, _, _ = _read(path)
    name = "".join(c if c.isalnum() or c == "-" else "-" for c in path.stem)
    return ClipFile(movement=PREFIX + name, path=path, seconds=float(times[-1] - times[0]))


def _mirrored(rotations: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    swap = {"_r": "_l", "_l": "_r"}
    return {
        name[:-2] + swap[name[-2:]] if name[-2:] in swap else name: _MIRROR @ rotation @ _MIRROR
        for name, rotation in rotations.items()
    }
