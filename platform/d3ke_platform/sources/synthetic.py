"""The embedded data set: rendered people in everyday movements, with exact cameras and markers.

It stands in for a mocap data set like BML-MoVi and needs no download: subjects of varied shape and
looks, a vocabulary of movements, a frontal and a sagittal video of every trial, and the virtual
markers of the same mesh. Every file depends on the settings and its own names only, not on what
else is made, where or in which order.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from jaxtyping import Float

from d3ke.camera import Camera, box_of_points, project
from d3ke.errors import InvalidInputError
from d3ke_platform.files import content_hash, write_json, write_table
from d3ke_platform.schema import BOXES
from d3ke_platform.sources import MadeUnit, SourcePlan, calibrated_columns
from d3ke_platform.sources.appearance import Outfit, dress, sample_appearance
from d3ke_platform.sources.clips import ClipFile, find_clips, flight, perform_clip
from d3ke_platform.sources.gait_table import IN_PLACE, TRAVELLING
from d3ke_platform.sources.lens import sample_lens
from d3ke_platform.sources.motions import Motion, make_motion, sample_motion_style
from d3ke_platform.sources.movement_table import SEATED
from d3ke_platform.sources.planting import plant
from d3ke_platform.sources.scene import Scene, room_to_move, sample_camera
from d3ke_platform.sources.seating import seat_of
from d3ke_platform.sources.sensor import Sensor
from d3ke_platform.sources.synthetic_settings import SyntheticSettings
from d3ke_platform.sources.tailoring import paint
from d3ke_platform.sources.video import VideoWriter

if TYPE_CHECKING:
    from d3ke_platform.sources.anny_body import AnnyBody, BodyMotion
    from d3ke_platform.sources.anny_phenotype import Phenotype

STATIC = "static"
_CLIPS = (
    "Movements of this data set follow motion capture files that its maker named. They are no part "
    "of the project that made it; whether they may be used and passed on, their licence says."
)


class SyntheticSource:
    """Source of the embedded data set. Picklable: body model and renderer are made when needed."""

    name = "synthetic"

    _shown = ""
    """The person whose room and clothes the scene has."""

    def __init__(self, settings: SyntheticSettings) -> None:
        self.settings = settings

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings}

    @property
    def movements(self) -> tuple[str, ...]:
        """Every movement that each person performs, clips included."""
        return (*self.settings.movements, *self._clips)

    @cached_property
    def _clips(self) -> dict[str, ClipFile]:
        clips, _ = find_clips(self.settings.clips)
        return {clip.movement: clip for clip in clips}

    def plan(self, folder: Path) -> SourcePlan:
        """Subjects, their splits and a unit for each static pose and trial.

        Writes `model.osim` (the built-in model with the mesh's markers) into `folder`, and
        `clips.json`, which says what motion capture of the user's the data set is made from.
        """
        from d3ke.kinematics import MarkerSet
        from d3ke.skeleton import MeasurementSet, PredictedSet, full_body_model_path

        marker_set = MarkerSet.builtin("anny")
        model = Path(folder) / "model.osim"
        model.parent.mkdir(parents=True, exist_ok=True)
        marker_set.apply_to_model(full_body_model_path(), model)
        splits = self.settings.splits()
        contents = self._describe_clips(Path(folder))
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
                    **({"clip_hash": contents[movement]} if movement in contents else {}),
                }
                for subject, split in splits.items()
                for movement in (STATIC, *self.movements)
            ],
        )

    def make(self, unit: Mapping[str, Any], folder: Path) -> MadeUnit:
        """One static pose (its .trc) or one trial: .trc, and a video and boxes for each camera."""
        folder, subject, movement = Path(folder), unit["subject"], unit["movement"]
        if movement == STATIC:
            self._write_static(subject, folder)
            return MadeUnit()
        self._check_clip(unit)
        motion = self.perform(subject, movement)
        trial = self._write_trial(unit, motion, folder)
        motion = motion.every(self.settings.labels_per_frame)
        cameras = {name: self.camera(subject, name) for name in self.settings.cameras}
        self.set_scene(subject, movement, trial["trial_id"], motion)
        paths = self._write_videos(trial["trial_id"], motion, cameras, folder)
        recordings = []
        for name, camera in cameras.items():
            boxes = vertex_boxes(camera, motion.vertices)
            _write_boxes(folder / f"boxes/{paths[name].stem}.parquet", boxes)
            recordings.append(self._recording_row(trial, name, camera, paths[name], len(boxes)))
        return MadeUnit(trials=[trial], recordings=recordings)

    @cached_property
    def body(self) -> AnnyBody:
        from d3ke_platform.sources.anny_body import AnnyBody

        return AnnyBody()

    @cached_property
    def scene(self) -> Scene:
        settings = self.settings
        return Scene(
            self.body.faces,
            len(self.body.dominant_bones),
            settings.image_size,
            style=settings.style,
            skin=self.body.skin_map if settings.style == "furnished" else None,
            distorted=settings.lens_distortion > 0,
        )

    def _generator(self, *names: str) -> np.random.Generator:
        """Random numbers of one thing: the same whatever else has been drawn."""
        return np.random.default_rng([self.settings.seed, *(crc32(n.encode()) for n in names)])

    def phenotype(self, subject: str) -> Phenotype:
        from d3ke_platform.sources.anny_body import sample_phenotype

        return sample_phenotype(self._generator(subject, "phenotype"), self.body)

    def camera(self, subject: str, name: str) -> Camera:
        settings, rng = self.settings, self._generator(subject, "camera", name)
        camera = sample_camera(
            name,
            image_size=settings.image_size,
            field_of_view_deg=settings.field_of_view,
            rng=rng,
        )
        if settings.lens_distortion == 0:
            return camera
        return sample_lens(camera, strength=settings.lens_distortion, rng=rng)

    def _room(self, subject: str) -> np.random.Generator:
        """Decides the looks of the room that a person is recorded in."""
        if self.settings.rooms == 1:
            return self._generator("room")
        number = self._generator(subject, "which room").integers(self.settings.rooms)
        return self._generator("room", str(number))

    def _outfit(self, subject: str) -> Outfit:
        from d3ke_platform.sources.anny_body import t_pose_rotations

        body = self.body
        standing = body.pose(
            self.phenotype(subject), t_pose_rotations(1), np.zeros((1, 3)), grounding="frame"
        )
        rng = self._generator(subject, "appearance")
        looks = sample_appearance(rng)
        vertices = standing.vertices[0]
        joints = {bone: at[0] for bone, at in standing.joints.items()}
        outfit = dress(looks, vertices, joints, body.dominant_bones, rng)
        if self.settings.style == "plain":
            return outfit
        texture = paint(looks, body.skin_map, vertices, joints, body.dominant_bones, rng)
        return replace(outfit, texture=texture)

    def perform(self, subject: str, movement: str) -> BodyMotion:
        """The moving body at the rate of the markers, above a floor at y = 0."""
        settings = self.settings
        motion = self._motion(subject, movement)
        moved = self.body.pose(
            self.phenotype(subject),
            motion.segment_rotations,
            motion.root_position,
            grounding="frame",
            clearance=motion.clearance,
        )
        if motion.measured_height:
            moved = moved.raised(flight(motion.root_position[:, 1], moved.joints["root"][:, 1]))
        if not settings.full_motion or movement in IN_PLACE:
            return moved
        rng = self._generator(subject, "way", movement)
        travels = movement in TRAVELLING or movement in self._clips
        x, _, z = motion.root_position[0]
        return plant(
            moved,
            rate_hz=settings.label_rate_hz,
            middle=(float(x), float(z)),
            heading=rng.uniform(0, 2 * np.pi) if travels else 0.0,
            reach_m=room_to_move(settings.field_of_view),
            side=rng.choice([-1.0, 1.0]),
            travels=travels,
        )

    def _describe_clips(self, folder: Path) -> dict[str, str]:
        """Writes clips.json where there are clips; movement -> hash of its file."""
        if not self.settings.clips:
            return {}
        clips, left_out = find_clips(self.settings.clips)
        contents = {clip.movement: content_hash(clip.path) for clip in clips}
        rows = [
            {
                "movement": clip.movement,
                "file": str(clip.path.resolve()),
                "content_hash": contents[clip.movement],
                "seconds": clip.seconds,
            }
            for clip in clips
        ]
        write_json(folder / "clips.json", {"note": _CLIPS, "clips": rows, "left_out": left_out})
        return contents

    def _check_clip(self, unit: Mapping[str, Any]) -> None:
        wanted = unit.get("clip_hash")
        clip = self._clips.get(unit["movement"])
        if wanted and (clip is None or content_hash(clip.path) != wanted):
            raise InvalidInputError(
                f"clip of {unit['movement']}",
                f"{clip.path if clip else 'its file'} has changed since the data set was planned",
            )

    def _motion(self, subject: str, movement: str) -> Motion:
        how: dict[str, Any] = {
            "rate_hz": self.settings.label_rate_hz,
            "seconds": self.settings.seconds,
            "style": sample_motion_style(self._generator(subject, "style")),
            "rng": self._generator(subject, "motion", movement),
            "fine": self.settings.full_motion,
        }
        if movement in self._clips:
            return perform_clip(self._clips[movement], **how)
        return make_motion(movement, **how)

    def _write_static(self, subject: str, folder: Path) -> None:
        from d3ke.kinematics import write_trc
        from d3ke_platform.sources.anny_markers import static_markers

        path = folder / _static_uri(subject)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_trc(path, static_markers(self.body, self.phenotype(subject)))

    def _write_trial(
        self, unit: Mapping[str, Any], motion: BodyMotion, folder: Path
    ) -> dict[str, Any]:
        from d3ke.kinematics import write_trc
        from d3ke_platform.sources.anny_markers import virtual_markers

        trial_id = f"{unit['subject']}_{unit['movement']}"
        uri = f"trials/{trial_id}.trc"
        (folder / uri).parent.mkdir(parents=True, exist_ok=True)
        rate = self.settings.label_rate_hz
        write_trc(folder / uri, virtual_markers(self.body, motion, rate_hz=rate))
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

    def set_scene(self, subject: str, movement: str, trial_id: str, motion: BodyMotion) -> None:
        """Room, light, clothes and chair of a trial."""
        scene = self.scene
        if self._shown != subject:
            # Both follow from the person alone, and to paint them takes as long as 150 pictures.
            self._shown = ""
            scene.furnish(self._room(subject))
            scene.dress(self._outfit(subject))
            self._shown = subject
        scene.light(self._generator(trial_id, "light"))
        planted = self.settings.full_motion and movement in SEATED
        scene.seat(seat_of(motion, self.body.dominant_bones) if planted else None)

    def _write_videos(
        self,
        trial_id: str,
        motion: BodyMotion,
        cameras: Mapping[str, Camera],
        folder: Path,
    ) -> dict[str, Path]:
        """Render every frame for all cameras at once; returns camera -> file."""
        scene = self.scene
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

    def _subject_row(self, subject: str, split: str) -> dict[str, Any]:
        phenotype = self.phenotype(subject)
        return {
            "subject": subject,
            "split": split,
            "sex": "female" if phenotype.gender > 0.5 else "male",
            "height_m": self.body.height(phenotype),
            "mass_kg": self.body.mass(phenotype),
            "static_uri": _static_uri(subject),
            "scale_setup_uri": "",
            "scaled_model_uri": "",
        }

    def _recording_row(
        self, trial: Mapping[str, Any], name: str, camera: Camera, path: Path, frame_count: int
    ) -> dict[str, Any]:
        return {
            "recording_id": path.stem,
            **{key: trial[key] for key in ("trial_id", "subject", "movement", "split")},
            "camera": name,
            "uri": f"videos/{path.name}",
            "content_hash": content_hash(path),
            "first_frame": 0,
            "start_s": 0.0,
            "fps": self.settings.rate_hz,
            "frame_count": frame_count,
            **calibrated_columns(camera),
        }


def vertex_boxes(camera: Camera, vertices: Float[np.ndarray, "T V 3"]) -> Float[np.ndarray, "T 4"]:
    """Tight box (px) of the whole projected body in every frame; vertices in ground, m."""
    return np.stack([box_of_points(project(camera, frame)) for frame in vertices])


def _write_boxes(path: Path, boxes: Float[np.ndarray, "T 4"]) -> None:
    columns = {"frame": np.arange(len(boxes)), "box": boxes, "confidence": np.ones(len(boxes))}
    write_table(path, BOXES.to_arrow(columns))


def _static_uri(subject: str) -> str:
    return f"subjects/{subject}_static.trc"
