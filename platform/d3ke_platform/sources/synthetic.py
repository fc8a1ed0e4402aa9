"""The embedded data set: rendered people in everyday movements, with exact cameras and markers.

It stands in for a mocap data set like BML-MoVi and needs no download: subjects of varied shape and
looks, a vocabulary of movements, a frontal and a sagittal video of every trial, and the virtual
markers of the same mesh. Every file depends on the settings and its own names only, not on what
else is made, where or in which order.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from jaxtyping import Float

from d3ke.camera import Camera, box_of_points, project
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.files import content_hash, write_table
from d3ke_platform.schema import BOXES
from d3ke_platform.sources import MadeUnit, SourcePlan
from d3ke_platform.sources.appearance import Outfit, dress, sample_appearance
from d3ke_platform.sources.motions import make_motion, sample_motion_style
from d3ke_platform.sources.movement_table import DEFAULT_MOVEMENTS, MOVEMENTS
from d3ke_platform.sources.scene import CAMERA_PLACES, Scene, sample_camera
from d3ke_platform.sources.sensor import Sensor
from d3ke_platform.sources.video import VideoWriter

if TYPE_CHECKING:
    from d3ke_platform.sources.anny_body import AnnyBody, BodyMotion
    from d3ke_platform.sources.anny_phenotype import Phenotype

STATIC = "static"


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
    seconds: float = 2.5
    """Mean length of a trial, s; people are up to a fifth faster or slower."""
    rate_hz: float = 10.0
    """Video frames and marker positions per second."""
    image_size: int = 320
    """Side of the square videos, px; even."""
    cameras: tuple[str, ...] = ("frontal", "sagittal")
    """Cameras: frontal, sagittal, oblique."""
    one_laboratory: bool = True
    """Record everybody in one room, as BML-MoVi did; otherwise another room for each person, which
    needs many more people: a dozen rooms are learnt by heart in place of the people in them."""
    seed: int = 0
    """Another seed gives other people, rooms and motions."""

    def __post_init__(self) -> None:
        held_out = self.validation_subjects + self.test_subjects
        if min(self.validation_subjects, self.test_subjects) < 0 or held_out >= self.subjects:
            raise InvalidInputError(
                "synthetic subjects", f"{held_out} of {self.subjects} held out leaves none to train"
            )
        for name in self.movements:
            if name not in MOVEMENTS:
                raise UnknownNameError("movement", name, MOVEMENTS)
        for name in self.cameras:
            if name not in CAMERA_PLACES:
                raise UnknownNameError("camera", name, CAMERA_PLACES)
        for what, names in (("movements", self.movements), ("cameras", self.cameras)):
            if not names or len(set(names)) != len(names):
                raise InvalidInputError(f"synthetic {what}", f"{names} must be distinct, not empty")
        if not (self.seconds > 0 and self.rate_hz > 0):
            raise InvalidInputError("synthetic trials", "seconds and rate_hz must be positive")
        if self.image_size < 32 or self.image_size % 2:
            raise InvalidInputError("image_size", f"{self.image_size} must be even and at least 32")
        if self.seed < 0:
            raise InvalidInputError("seed", f"{self.seed} is negative")

    def splits(self) -> dict[str, str]:
        """Subject -> split. Subjects are drawn independently, so the last ones are held out."""
        training = self.subjects - self.validation_subjects - self.test_subjects
        split = ["train"] * training + ["validation"] * self.validation_subjects
        split += ["test"] * self.test_subjects
        return {f"s{index:03d}": name for index, name in enumerate(split, start=1)}


class SyntheticSource:
    """Source of the embedded data set. Picklable: body model and renderer are made when needed."""

    name = "synthetic"

    def __init__(self, settings: SyntheticSettings) -> None:
        self.settings = settings

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings}

    def plan(self, folder: Path) -> SourcePlan:
        """Subjects, their splits and a unit for each static pose and trial.

        Writes `model.osim` (the built-in model with the mesh's markers) into `folder`.
        """
        from d3ke.kinematics import MarkerSet
        from d3ke.skeleton import MeasurementSet, PredictedSet, full_body_model_path

        marker_set = MarkerSet.builtin("anny")
        model = Path(folder) / "model.osim"
        model.parent.mkdir(parents=True, exist_ok=True)
        marker_set.apply_to_model(full_body_model_path(), model)
        splits = self.settings.splits()
        return SourcePlan(
            model_osim=model,
            marker_set=marker_set,
            measurements=MeasurementSet.full_body(),
            predicted=PredictedSet.full_body(),
            subjects=[self._subject_row(subject, split) for subject, split in splits.items()],
            units=[
                {
                    "unit": f"{subject}_{movement}",
                    "subject": subject,
                    "movement": movement,
                    "split": split,
                }
                for subject, split in splits.items()
                for movement in (STATIC, *self.settings.movements)
            ],
        )

    def make(self, unit: Mapping[str, Any], folder: Path) -> MadeUnit:
        """One static pose (its .trc) or one trial: .trc, and a video and boxes for each camera."""
        folder, subject, movement = Path(folder), unit["subject"], unit["movement"]
        if movement == STATIC:
            self._write_static(subject, folder)
            return MadeUnit()
        motion = self._perform(subject, movement)
        trial = self._write_trial(unit, motion, folder)
        cameras = {name: self._camera(subject, name) for name in self.settings.cameras}
        paths = self._write_videos(trial["trial_id"], subject, motion, cameras, folder)
        recordings = []
        for name, camera in cameras.items():
            self._write_boxes(paths[name].stem, motion, camera, folder)
            recordings.append(self._recording_row(trial, name, camera, paths[name]))
        return MadeUnit(trials=[trial], recordings=recordings)

    @cached_property
    def _body(self) -> AnnyBody:
        from d3ke_platform.sources.anny_body import AnnyBody

        return AnnyBody()

    @cached_property
    def _scene(self) -> Scene:
        size = self.settings.image_size
        return Scene(self._body.faces, len(self._body.dominant_bones), size)

    def _generator(self, *names: str) -> np.random.Generator:
        """Random numbers of one thing: the same whatever else has been drawn."""
        return np.random.default_rng([self.settings.seed, *(crc32(n.encode()) for n in names)])

    def _phenotype(self, subject: str) -> Phenotype:
        from d3ke_platform.sources.anny_body import sample_phenotype

        return sample_phenotype(self._generator(subject, "phenotype"), self._body)

    def _camera(self, subject: str, name: str) -> Camera:
        rng = self._generator(subject, "camera", name)
        return sample_camera(name, image_size=self.settings.image_size, rng=rng)

    def _room(self, subject: str) -> np.random.Generator:
        owner = () if self.settings.one_laboratory else (subject,)
        return self._generator(*owner, "room")

    def _outfit(self, subject: str) -> Outfit:
        from d3ke_platform.sources.anny_body import t_pose_rotations

        standing = self._body.pose(
            self._phenotype(subject), t_pose_rotations(1), np.zeros((1, 3)), grounding="frame"
        )
        rng = self._generator(subject, "appearance")
        return dress(
            sample_appearance(rng),
            standing.vertices[0],
            {bone: at[0] for bone, at in standing.joints.items()},
            self._body.dominant_bones,
            rng,
        )

    def _perform(self, subject: str, movement: str) -> BodyMotion:
        """The moving body. Every frame stands on the floor: no movement leaves it."""
        motion = make_motion(
            movement,
            rate_hz=self.settings.rate_hz,
            seconds=self.settings.seconds,
            style=sample_motion_style(self._generator(subject, "style")),
            rng=self._generator(subject, "motion", movement),
        )
        return self._body.pose(
            self._phenotype(subject),
            motion.segment_rotations,
            motion.root_position,
            grounding="frame",
        )

    def _write_static(self, subject: str, folder: Path) -> None:
        from d3ke.kinematics import write_trc
        from d3ke_platform.sources.anny_markers import static_markers

        path = folder / _static_uri(subject)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_trc(path, static_markers(self._body, self._phenotype(subject)))

    def _write_trial(
        self, unit: Mapping[str, Any], motion: BodyMotion, folder: Path
    ) -> dict[str, Any]:
        from d3ke.kinematics import write_trc
        from d3ke_platform.sources.anny_markers import virtual_markers

        trial_id = f"{unit['subject']}_{unit['movement']}"
        uri = f"trials/{trial_id}.trc"
        (folder / uri).parent.mkdir(parents=True, exist_ok=True)
        rate = self.settings.rate_hz
        write_trc(folder / uri, virtual_markers(self._body, motion, rate_hz=rate))
        return {
            "trial_id": trial_id,
            "subject": unit["subject"],
            "movement": unit["movement"],
            "split": unit["split"],
            "rate_hz": rate,
            "frame_count": len(motion.vertices),
            "markers_uri": uri,
            "ik_setup_uri": "",
        }

    def _write_videos(
        self,
        trial_id: str,
        subject: str,
        motion: BodyMotion,
        cameras: Mapping[str, Camera],
        folder: Path,
    ) -> dict[str, Path]:
        """Render every frame for all cameras at once; returns camera -> file."""
        scene = self._scene
        scene.furnish(self._room(subject))
        scene.light(self._generator(trial_id, "light"))
        scene.dress(self._outfit(subject))
        paths = {name: folder / f"videos/{trial_id}_{name}.mp4" for name in cameras}
        sensors = {
            name: Sensor(size=camera.size, rng=self._generator(trial_id, "sensor", name))
            for name, camera in cameras.items()
        }
        rate = self.settings.rate_hz
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(VideoWriter(paths[name], size=camera.size, fps=rate))
                for name, camera in cameras.items()
            }
            for vertices in motion.vertices:
                scene.pose(vertices)
                for name, camera in cameras.items():
                    writers[name].write(sensors[name](scene.picture(camera)))
        return paths

    def _write_boxes(
        self, recording_id: str, motion: BodyMotion, camera: Camera, folder: Path
    ) -> None:
        boxes = vertex_boxes(camera, motion.vertices)
        table = BOXES.to_arrow(
            {"frame": np.arange(len(boxes)), "box": boxes, "confidence": np.ones(len(boxes))}
        )
        write_table(folder / f"boxes/{recording_id}.parquet", table)

    def _subject_row(self, subject: str, split: str) -> dict[str, Any]:
        phenotype = self._phenotype(subject)
        return {
            "subject": subject,
            "split": split,
            "sex": "female" if phenotype.gender > 0.5 else "male",
            "height_m": self._body.height(phenotype),
            "mass_kg": self._body.mass(phenotype),
            "static_uri": _static_uri(subject),
            "scale_setup_uri": "",
            "scaled_model_uri": "",
        }

    def _recording_row(
        self, trial: Mapping[str, Any], name: str, camera: Camera, path: Path
    ) -> dict[str, Any]:
        return {
            "recording_id": path.stem,
            **{key: trial[key] for key in ("trial_id", "subject", "movement", "split")},
            "camera": name,
            "uri": f"videos/{path.name}",
            "content_hash": content_hash(path),
            "first_frame": 0,
            "start_s": 0.0,
            "fps": trial["rate_hz"],
            "frame_count": trial["frame_count"],
            "width": camera.size[0],
            "height": camera.size[1],
            "intrinsics": camera.intrinsics,
            "rotation": camera.rotation,
            "translation": camera.translation,
            "distortion": camera.distortion,
            "calibrated": True,
        }


def vertex_boxes(camera: Camera, vertices: Float[np.ndarray, "T V 3"]) -> Float[np.ndarray, "T 4"]:
    """Tight box (px) of the whole projected body in every frame; vertices in ground, m."""
    return np.stack([box_of_points(project(camera, frame)) for frame in vertices])


def _static_uri(subject: str) -> str:
    return f"subjects/{subject}_static.trc"
