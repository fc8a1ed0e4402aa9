"""Settings of the source of multi-camera recordings."""

from __future__ import annotations

from dataclasses import dataclass

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.calibration import UP_AXES
from d3ke_platform.errors import UsageError
from d3ke_platform.sources.ground_axes import AUTO


@dataclass(frozen=True, kw_only=True)
class MultiCameraSettings:
    """How videos of calibrated, synchronised cameras become marker trajectories."""

    up_axis: str = AUTO
    """Axis of the calibration's world that points up: x, y, z, -x, -y, -z; auto: the one people
    stand along. A .json calibration has y up."""
    min_views: int = 2
    """A landmark seen by fewer cameras is missing."""
    confidence_threshold: float = 0.3
    """A view takes part where the landmarker is at least this sure that it sees the landmark."""
    scale_px: float = 20.0
    """Reprojection errors well below count by their square, those well above hardly grow, px; for
    videos about 2000 px large, as the next two."""
    outlier_px: float = 30.0
    """A view further off than this is left out of a point if enough others remain, px."""
    max_error_px: float = 30.0
    """A landmark whose mean reprojection error stays above this is missing, px."""
    max_frame_difference: int = 2
    """Videos of a trial may differ in length by this many frames, which are cut off at the end."""
    max_gap_s: float = 0.2
    """Gaps in a landmark's trajectory up to this long are bridged, s."""
    cutoff_hz: float = 6.0
    """Cut-off of the zero-lag fourth-order Butterworth filter, Hz; 0: no filter. 6 for walking and
    everyday movements, 10 to 15 for running and fast ones."""
    static: str = "auto"
    """Static pose that each subject is scaled by: auto (the straightest frame of all trials), a
    trial's name (its straightest frame) or TRIAL:FRAME; subjects.csv may say otherwise."""
    symmetric: bool = True
    """Both sides of a body get the mean of their lengths."""
    validation_subjects: int = 0
    """How many subjects without a split of their own are for validation, the last but for those
    for testing."""
    test_subjects: int = 0
    """How many subjects without a split of their own are for testing, the last by name."""
    mass_kg: float = 70.0
    """Mass of subjects that subjects.csv tells none of, kg; angles do not depend on it."""
    model: str = ""
    """OpenSim model (.osim) in place of the built-in one; then also the next four, files in the
    formats of a data set's own (model.osim, marker_set.json, ...)."""
    marker_set: str = ""
    """Markers named like landmarks, on `model`."""
    measurements: str = ""
    """Distances between those markers that scale `model`."""
    predicted: str = ""
    """Coordinates of `model` that networks predict."""
    scaling: str = ""
    """Locks and couplers of `model`; empty: those of the built-in model, where they apply."""

    def __post_init__(self) -> None:
        if self.up_axis not in (AUTO, *UP_AXES):
            raise UnknownNameError("multicamera.up_axis", self.up_axis, (AUTO, *UP_AXES))
        for name in ("max_frame_difference", "max_gap_s", "cutoff_hz"):
            if not getattr(self, name) >= 0:
                raise InvalidInputError(f"multicamera.{name}", f"{getattr(self, name)} is negative")
        if self.min_views < 2:
            raise InvalidInputError("multicamera.min_views", f"{self.min_views} is below 2")
        if not 0.0 <= self.confidence_threshold <= 1.0:
            raise InvalidInputError(
                "multicamera.confidence_threshold", f"{self.confidence_threshold} is not in 0 to 1"
            )
        for name in ("scale_px", "outlier_px", "max_error_px"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"multicamera.{name}", f"{getattr(self, name)} px")
        if min(self.validation_subjects, self.test_subjects) < 0:
            raise InvalidInputError("multicamera", "a number of held-out subjects is negative")
        if not 2.0 <= self.mass_kg <= 350.0:
            raise InvalidInputError("multicamera.mass_kg", f"{self.mass_kg} kg is not a person's")
        _check_static(self.static)
        own = [name for name in _OWN_MODEL if getattr(self, name)]
        if own and len(own) < len(_OWN_MODEL):
            missing = ", ".join(name for name in _OWN_MODEL if name not in own)
            raise UsageError(
                f"multicamera.{own[0]} is given without {missing}. A model of your own needs all "
                f"of {', '.join(_OWN_MODEL)}; leave all empty for the built-in model."
            )
        if self.scaling and not own:
            raise UsageError("multicamera.scaling is for a model of your own (multicamera.model).")


_OWN_MODEL = ("model", "marker_set", "measurements", "predicted")


def parse_static(static: str) -> tuple[str, int | None]:
    """Trial ("" = any) and frame (None = the straightest) of a `static` setting.

    Raises InvalidInputError for a frame that is no number.
    """
    if static == AUTO:
        return "", None
    trial, colon, frame = static.partition(":")
    if colon and not frame.isdecimal():
        raise InvalidInputError(
            f"static {static!r}",
            f"frame {frame!r} is no frame number",
            "Form: TRIAL or TRIAL:FRAME.",
        )
    return trial, int(frame) if colon else None


def _check_static(static: str) -> None:
    if not static:
        raise InvalidInputError("multicamera.static", "is empty; auto takes the straightest frame")
    parse_static(static)
