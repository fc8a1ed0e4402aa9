"""Settings of the embedded data set."""

from __future__ import annotations

from dataclasses import dataclass

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.sources.movement_table import DEFAULT_MOVEMENTS, MOVEMENTS
from d3ke_platform.sources.scene import CAMERA_PLACES, STYLES


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """What the embedded data set consists of."""

    subjects: int = 14
    """Number of people, the held-out ones included."""
    validation_subjects: int = 2
    """How many of them are for validation."""
    test_subjects: int = 2
    """How many of them are for testing."""
    movements: tuple[str, ...] = DEFAULT_MOVEMENTS
    """Movements that every person performs once."""
    clips: tuple[str, ...] = ()
    """Your own motion capture, performed by every person as well: .mot files of joint angles,
    DeepMimic motion files (.txt), or folders of such files. Check their licence."""
    seconds: float = 2.5
    """Mean length of a trial, s; people are up to a fifth faster or slower."""
    rate_hz: float = 10.0
    """Video frames per second."""
    marker_rate_hz: float = 0.0
    """Marker positions per second, a multiple of rate_hz; 0: as many as video frames."""
    full_motion: bool = False
    """Feet stay where they are planted, gaits lead through the room, and wrists, forearms and toes
    move; otherwise the pelvis keeps its place and small joints are still."""
    image_size: int = 320
    """Side of the square videos, px; even."""
    cameras: tuple[str, ...] = ("frontal", "sagittal")
    """Cameras: frontal, sagittal, oblique."""
    field_of_view: float = 40.0
    """Mean field of view of the cameras, degrees."""
    lens_distortion: float = 0.0
    """Largest radial distortion |k1| of a lens; 0: pinholes."""
    rooms: int = 1
    """Number of rooms that the people are spread over. BML-MoVi has one; a few are learnt by heart
    in place of the people in them, so take one, or many."""
    style: str = "plain"
    """Look of rooms and clothes: plain (a coloured room; enough for the demo's small network) or
    furnished (floors, walls, doors, furniture; cloth with seams and patterns)."""
    seed: int = 0
    """Another seed gives other people, rooms and motions."""

    def __post_init__(self) -> None:
        self._check_people()
        for name in self.movements:
            if name not in MOVEMENTS:
                raise UnknownNameError("movement", name, MOVEMENTS)
        for name in self.cameras:
            if name not in CAMERA_PLACES:
                raise UnknownNameError("camera", name, CAMERA_PLACES)
        for what, names in (("movements", self.movements), ("cameras", self.cameras)):
            if not names or len(set(names)) != len(names):
                raise InvalidInputError(f"synthetic {what}", f"{names} must be distinct, not empty")
        if self.style not in STYLES:
            raise UnknownNameError("style", self.style, STYLES)
        self._check_rates()
        if self.image_size < 32 or self.image_size % 2:
            raise InvalidInputError("image_size", f"{self.image_size} must be even and at least 32")
        if not 20 <= self.field_of_view <= 80:
            raise InvalidInputError("field_of_view", f"{self.field_of_view} is not in 20 to 80 deg")
        if not 0 <= self.lens_distortion <= 0.3:
            raise InvalidInputError("lens_distortion", f"{self.lens_distortion} is not in 0 to 0.3")
        if self.seed < 0:
            raise InvalidInputError("seed", f"{self.seed} is negative")

    def _check_people(self) -> None:
        held_out = self.validation_subjects + self.test_subjects
        if min(self.validation_subjects, self.test_subjects) < 0 or held_out >= self.subjects:
            raise InvalidInputError(
                "synthetic subjects", f"{held_out} of {self.subjects} held out leaves none to train"
            )
        if self.rooms < 1:
            raise InvalidInputError("rooms", f"{self.rooms}: people need at least one")

    def _check_rates(self) -> None:
        if not (self.seconds > 0 and self.rate_hz > 0):
            raise InvalidInputError("synthetic trials", "seconds and rate_hz must be positive")
        ratio = self.marker_rate_hz / self.rate_hz
        if self.marker_rate_hz and (ratio < 1 or abs(ratio - round(ratio)) > 1e-9):
            raise InvalidInputError(
                "marker_rate_hz",
                f"{self.marker_rate_hz} is not a multiple of rate_hz, {self.rate_hz}: every video "
                "frame needs markers of its own time",
            )

    @property
    def labels_per_frame(self) -> int:
        """Time steps of the markers for each video frame."""
        return max(1, round(self.marker_rate_hz / self.rate_hz))

    @property
    def label_rate_hz(self) -> float:
        """Time steps of the markers per second."""
        return self.rate_hz * self.labels_per_frame

    def splits(self) -> dict[str, str]:
        """Subject -> split. Subjects are drawn independently, so the last ones are held out."""
        training = self.subjects - self.validation_subjects - self.test_subjects
        split = ["train"] * training + ["validation"] * self.validation_subjects
        split += ["test"] * self.test_subjects
        return {f"s{index:03d}": name for index, name in enumerate(split, start=1)}
