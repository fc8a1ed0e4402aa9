"""Settings of the source that reads OpenSim users' own trial folders."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from d3ke.errors import InvalidInputError, UnknownNameError

SCALES = ("auto", "setup", "model", "estimate")
UNITS = ("auto", "mm", "cm", "m")
UP_AXES = ("auto", "x", "y", "z", "-x", "-y", "-z")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class OpenSimSettings:
    """OpenSim users' trial folders; docs/opensim-folders.md says what is found by itself."""

    subject_folders: str = ""
    """Glob below the input folder: a folder for each subject. Empty: the input folder itself where
    marker files lie in it, else each folder in it that holds marker files."""
    model: str = ""
    """Glob of the generic model (.osim) in a subject's folder or the input folder; empty: the one
    that the Scale setup names, or the only one."""
    scaled_model: str = ""
    """Glob of a model that is already this subject's; empty: none."""
    scale_setup: str = ""
    """Glob of the ScaleTool setup (.xml); empty: found by its content."""
    ik_setup: str = ""
    """Glob of the IK setup or task set (.xml) for all trials; empty: found by content, matched to
    trials by the marker file it names."""
    static: str = ""
    """Glob of the static trial; empty: the one that the Scale setup names, or by its name (static,
    calibration, neutral, T-pose)."""
    trials: str = ""
    """Glob of the trials (.trc, .c3d); empty: every marker file but the static ones."""
    videos: str = ""
    """Glob of the videos; empty: videos named <trial>_<camera> or lying in a folder <camera>."""
    calibration: str = ""
    """Glob of the camera calibration (.toml, .qca.txt, .json); empty: the only one there is."""
    scale: str = "auto"
    """How a subject's model is made: setup (Scale setup), model (it is scaled already), estimate
    (factors that fit the static trial), auto (setup if there is one, else model)."""
    units: str = "auto"
    """Unit of all marker files; auto: what each file states."""
    up_axis: str = "auto"
    """Axis of the marker files that points up; auto: y in .trc files, found by the trunk in .c3d
    files. Stating it also says that a lying person really lies."""
    marker_names: dict[str, str] = field(default_factory=dict)
    """Names in marker files and setups -> names on the model, where they differ."""
    ignored_markers: tuple[str, ...] = ()
    """Names in marker files that are left out, though they resemble a name on the model."""
    accept_near_misses: bool = False
    """Rename markers to the names on the model that they nearly have, in place of refusing them."""
    most_missing: float = 0.5
    """A trial is refused when more than this share of its marker positions is missing."""
    movement: str = r"(?P<movement>.*?)[ _\-.]*\d*"
    """Regular expression over a whole trial name (without the subject's name before it); its group
    `movement` names the movement."""
    subjects_csv: str = "subjects.csv"
    """Table in the input folder: subject, and any of split, sex, height_m, mass_kg; may be
    absent."""
    validation_subjects: tuple[str, ...] = ()
    """Subjects of the validation split, where the table does not tell."""
    test_subjects: tuple[str, ...] = ()
    """Subjects of the test split, likewise. With neither, of three subjects or more the last is for
    test and the one before it for validation."""
    video_start_s: float = 0.0
    """Time of a video's first frame after the first frame of its marker file, s."""
    most_length_difference_s: float = 0.1
    """A video that ends this much before or after its marker file is not synchronised, s."""

    def __post_init__(self) -> None:
        for name, values in (("scale", SCALES), ("units", UNITS), ("up_axis", UP_AXES)):
            if getattr(self, name) not in values:
                raise UnknownNameError(f"opensim.{name}", getattr(self, name), values)
        if not 0.0 <= self.most_missing <= 1.0:
            raise InvalidInputError("opensim.most_missing", f"{self.most_missing} is not a share")
        if self.most_length_difference_s < 0.0:
            reason = f"{self.most_length_difference_s} s is negative"
            raise InvalidInputError("opensim.most_length_difference_s", reason)
        if both := sorted({*self.validation_subjects} & {*self.test_subjects}):
            reason = f"{', '.join(both)} in two splits, validation and test"
            raise InvalidInputError("opensim splits", reason, "A subject belongs to one split.")
        try:
            pattern = re.compile(self.movement)
        except re.error as error:
            raise InvalidInputError("opensim.movement", f"{self.movement!r}: {error}") from error
        if "movement" not in pattern.groupindex:
            reason = f"{self.movement!r} has no group (?P<movement>...)"
            raise InvalidInputError("opensim.movement", reason)
        if double := _twice(self.marker_names.values()):
            reason = f"two names in the files become {', '.join(double)}"
            raise InvalidInputError("opensim.marker_names", reason)


def _twice(names: Iterable[str]) -> list[str]:
    listed = list(names)
    return sorted({name for name in listed if listed.count(name) > 1})
