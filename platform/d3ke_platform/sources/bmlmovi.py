"""BML-MoVi, the data of the paper: two videos and the AMASS fit of every motion.

The data are licensed; docs/bml-movi.md says what to get from where. A video shows one subject's
whole recording; the motions in it are found by the Visual3D file's limits. Video frame f of a
motion shows motion capture sample 4 f (30 and 120 Hz). Markers are points of the fitted SMPL-H mesh
in the ground frame (x forward, y up, z right; metres): AMASS's z-up world and the cameras' world
are turned.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform import files
from d3ke_platform.errors import UsageError
from d3ke_platform.sources import InputCheck, MadeUnit, SourcePlan
from d3ke_platform.sources.bmlmovi_amass import (
    GROUND_FROM_AMASS,
    AmassMotion,
    read_amass,
    read_betas,
)
from d3ke_platform.sources.bmlmovi_cameras import CAMERAS, read_camera
from d3ke_platform.sources.bmlmovi_inventory import (
    Inventory,
    Participant,
    subject_name,
    take_inventory,
)
from d3ke_platform.sources.bmlmovi_layout import Layout, find_files
from d3ke_platform.sources.bmlmovi_recordings import (
    MOCAP_HZ,
    VIDEO_HZ,
    check_length,
    check_sex,
    describe_video,
    mesh_boxes,
    recording_row,
)
from d3ke_platform.sources.smplh_body import SMPLHBody
from d3ke_platform.sources.smplh_markers import (
    marker_table,
    static_pose,
    to_ground,
    virtual_markers,
)

STATIC, VIDEO = "static", "video"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BMLMoViSettings:
    """What of BML-MoVi is used."""

    label_rate_hz: float = 30.0
    """Labels per second: 120 (every motion capture sample) or a whole fraction of it. 30 gives each
    video frame its label, the same as with 120, for a quarter of the work."""
    cameras: tuple[str, ...] = CAMERAS
    """Cameras: PG1 (frontal), PG2 (sagittal)."""
    subjects: tuple[int, ...] = ()
    """Only subjects of these numbers; empty: all that are there."""
    mesh_boxes: bool = False
    """Take people's boxes from the fitted mesh. Otherwise the detector finds them, as in the paper
    and as in scoring."""
    all_markers: bool = False
    """Keep all 142 virtual markers in the .trc files, not only those that the model has."""

    def __post_init__(self) -> None:
        for name in self.cameras:
            if name not in CAMERAS:
                raise UnknownNameError("camera", name, CAMERAS)
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise InvalidInputError(
                "bmlmovi.cameras", f"{self.cameras} must be distinct, not empty"
            )
        every = MOCAP_HZ / self.label_rate_hz if self.label_rate_hz > 0 else 0.0
        if every < 1 or not float(every).is_integer():
            raise InvalidInputError(
                "bmlmovi.label_rate_hz", f"{self.label_rate_hz:g} is no whole fraction of 120"
            )
        if any(number < 1 for number in self.subjects):
            raise InvalidInputError("bmlmovi.subjects", f"{self.subjects} are not all above 0")


class BMLMoViSource:
    """Source of BML-MoVi's recordings. Picklable: body models are read when needed."""

    name = "bmlmovi"

    def __init__(self, folder: str, settings: BMLMoViSettings) -> None:
        """`folder` holds the downloads, unpacked, in any subfolders."""
        self.folder = str(Path(folder).expanduser().absolute())
        self.settings = settings

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "settings": self.settings}

    def check(self) -> InputCheck:
        """What is there, what is missing and what is broken, before anything is made."""
        from d3ke_platform.sources.bmlmovi_check import check_download

        layout = self._layout
        return check_download(layout, self._inventory, self.settings.cameras)

    def plan(self, folder: Path) -> SourcePlan:
        """Subjects with the paper's splits, and a unit for each static pose and motion.

        Writes `model.osim` (the built-in model with the mesh's markers) into `folder`. Subjects
        that are left out are logged; one with a broken file becomes a unit that cannot be made.
        Raises UsageError when there is nobody to use.
        """
        from d3ke.kinematics import MarkerSet
        from d3ke.skeleton import MeasurementSet, PredictedSet, full_body_model_path

        inventory = self._inventory
        for number, reason in inventory.skipped.items():
            _log.info("subject %d is left out: %s", number, reason)
        for participant in inventory.usable:
            for number, reason in participant.left_out.items():
                _log.info("%s: motion %d is left out: %s", participant.name, number, reason)
        if not inventory.usable:
            raise UsageError(
                f"--input {self.folder}: nothing of BML-MoVi can be used. "
                "Run again with --check to see what is missing."
            )
        marker_set = MarkerSet.builtin("smplh")
        model = Path(folder) / "model.osim"
        model.parent.mkdir(parents=True, exist_ok=True)
        marker_set.apply_to_model(full_body_model_path(), model)
        subjects: list[dict[str, Any]] = []
        units = [_unusable(number, reason) for number, reason in inventory.broken.items()]
        for participant in inventory.usable:
            try:
                subjects.append(self._subject_row(participant))
            except InvalidInputError as error:
                units.append(_unusable(participant.number, str(error)))
                continue
            units += self._units(participant)
        return SourcePlan(
            model_osim=model,
            marker_set=marker_set,
            measurements=MeasurementSet.full_body(),
            predicted=PredictedSet.full_body(),
            subjects=subjects,
            units=units,
        )

    def make(self, unit: Mapping[str, Any], folder: Path) -> MadeUnit:
        """What a video is, a static pose (its .trc), or the markers and recordings of a motion."""
        folder = Path(folder)
        if problem := unit.get("problem"):
            raise InvalidInputError(f"subject {unit['subject']}", str(problem).rstrip("."))
        if unit["movement"] == VIDEO:
            described = describe_video(self._path(unit["video"]))
            files.write_json(folder / _video_uri(unit["subject"], unit["camera"]), described)
            return MadeUnit()
        if unit["movement"] == STATIC:
            self._write_static(unit, folder)
            return MadeUnit()
        motion = self._motion(unit)
        cameras = {name: self._camera(name) for name in unit["cameras"]}
        trial = self._write_trial(unit, motion, folder)
        recordings = _recordings(unit, trial, cameras, folder)
        if self.settings.mesh_boxes:
            self._write_boxes(unit, motion, recordings, cameras, folder)
        return MadeUnit(trials=[trial], recordings=recordings)

    @cached_property
    def _layout(self) -> Layout:
        return find_files(self.folder)

    @cached_property
    def _inventory(self) -> Inventory:
        settings = self.settings
        return take_inventory(self._layout, cameras=settings.cameras, subjects=settings.subjects)

    @cached_property
    def _bodies(self) -> dict[str, SMPLHBody]:
        return {}

    def _body(self, path: str) -> SMPLHBody:
        if path not in self._bodies:
            self._bodies[path] = SMPLHBody(self._path(path))
        return self._bodies[path]

    def _camera(self, name: str) -> Camera:
        layout = self._layout
        return read_camera(layout.parameters[name], layout.extrinsics[name])

    def _path(self, relative: str) -> Path:
        return Path(self.folder) / relative

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _subject_row(self, participant: Participant) -> dict[str, Any]:
        betas = read_betas(self._shape_file(participant))
        body = self._body(self._relative(self._layout.body_models[participant.sex]))
        static = static_pose(body, betas)
        return {
            "subject": participant.name,
            "split": participant.split,
            "sex": participant.sex,
            "height_m": static.height_m,
            "mass_kg": static.mass_kg,
            "static_uri": _static_uri(participant.name),
            "scale_setup_uri": "",
            "scaled_model_uri": "",
        }

    def _shape_file(self, participant: Participant) -> Path:
        """The motion whose shape coefficients are the subject's: the first."""
        return self._layout.motions[participant.number][min(participant.motions)]

    def _units(self, participant: Participant) -> list[dict[str, Any]]:
        """JSON values; files are named relative to the input folder."""
        layout, number = self._layout, participant.number
        common = {
            "subject": participant.name,
            "split": participant.split,
            "sex": participant.sex,
            "body_model": self._relative(layout.body_models[participant.sex]),
            "cameras": list(participant.cameras),
        }
        static = {
            "unit": f"{participant.name}_{STATIC}",
            "movement": STATIC,
            "phase": 0,
            "motion": self._relative(self._shape_file(participant)),
        }
        videos = [
            {
                "unit": f"{participant.name}_{VIDEO}_{camera}",
                "movement": VIDEO,
                "phase": 0,
                "camera": camera,
                "video": self._relative(layout.videos[number, camera]),
            }
            for camera in participant.cameras
        ]
        motions = [
            {
                "unit": f"{participant.name}_{k:02d}_{motion.name}",
                "movement": motion.name,
                "phase": 1,
                "motion": self._relative(layout.motions[number][k]),
                "first_frame": motion.first_frame,
                "frame_count": motion.frame_count,
            }
            for k, motion in participant.motions.items()
        ]
        return [unit | common for unit in (static, *videos, *motions)]

    def _motion(self, unit: Mapping[str, Any]) -> AmassMotion:
        path = self._path(unit["motion"])
        motion = read_amass(path)
        if abs(motion.rate_hz - MOCAP_HZ) > 0.1:
            reason = f"has {motion.rate_hz:g} samples a second, not 120"
            raise InvalidInputError(str(path), reason)
        check_sex(path, motion.sex, unit["sex"])
        check_length(path, len(motion.poses), unit["frame_count"])
        return motion

    def _write_static(self, unit: Mapping[str, Any], folder: Path) -> None:
        from d3ke.kinematics import write_trc

        body = self._body(unit["body_model"])
        static = static_pose(body, read_betas(self._path(unit["motion"])))
        path = folder / _static_uri(unit["subject"])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_trc(path, static.markers)

    def _write_trial(
        self, unit: Mapping[str, Any], motion: AmassMotion, folder: Path
    ) -> dict[str, Any]:
        from d3ke.kinematics import MarkerSet, write_trc

        rate = self.settings.label_rate_hz
        every = round(MOCAP_HZ / rate)
        moved = to_ground(
            self._body(unit["body_model"]).pose(
                motion.poses[::every],
                motion.betas,
                motion.translation[::every],
                list(marker_table().vertices.values()),
            ),
            GROUND_FROM_AMASS,
        )
        markers = virtual_markers(moved.vertices, moved.joints, rate_hz=rate)
        if not self.settings.all_markers:
            markers = markers.reordered(MarkerSet.builtin("smplh").names)
        uri = f"trials/{unit['unit']}.trc"
        (folder / uri).parent.mkdir(parents=True, exist_ok=True)
        write_trc(folder / uri, markers)
        return {
            "trial_id": unit["unit"],
            "subject": unit["subject"],
            "movement": unit["movement"],
            "split": unit["split"],
            "rate_hz": rate,
            "frame_count": len(markers.times),
            "markers_uri": uri,
            "ik_setup_uri": "",
        }

    def _write_boxes(
        self,
        unit: Mapping[str, Any],
        motion: AmassMotion,
        recordings: list[dict[str, Any]],
        cameras: Mapping[str, Camera],
        folder: Path,
    ) -> None:
        """Boxes of every recording, from the mesh at the sample that each video frame shows."""
        longest = max(row["frame_count"] for row in recordings)
        shown = np.arange(longest) * round(MOCAP_HZ / VIDEO_HZ)
        shown = np.minimum(shown, len(motion.poses) - 1)  # the video may end later than the mocap
        mesh = to_ground(
            self._body(unit["body_model"]).pose(
                motion.poses[shown], motion.betas, motion.translation[shown]
            ),
            GROUND_FROM_AMASS,
        )
        for row in recordings:
            table = mesh_boxes(cameras[row["camera"]], mesh.vertices[: row["frame_count"]])
            files.write_table(folder / f"boxes/{row['recording_id']}.parquet", table)


def _unusable(number: int, reason: str) -> dict[str, Any]:
    name = subject_name(number)
    return {"unit": name, "subject": name, "problem": reason}


def _recordings(
    unit: Mapping[str, Any],
    trial: Mapping[str, Any],
    cameras: Mapping[str, Camera],
    folder: Path,
) -> list[dict[str, Any]]:
    """Rows of the cameras whose video could be described and shows the motion.

    A video that is no use is a reject of its own; the labels and the other video stay. Raises
    InvalidInputError when no camera shows the motion.
    """
    rows, problems = [], []
    for name, camera in cameras.items():
        uri = folder / _video_uri(unit["subject"], name)
        try:
            rows.append(recording_row(trial, name, camera, files.read_json(uri), unit))
        except InvalidInputError as error:
            problems.append(str(error))
    if not rows:
        raise InvalidInputError(f"trial {unit['unit']}", f"no camera shows it: {problems}")
    for problem in problems:
        _log.warning("%s has one video only: %s", unit["unit"], problem)
    return rows


def _static_uri(subject: str) -> str:
    return f"subjects/{subject}_static.trc"


def _video_uri(subject: str, camera: str) -> str:
    return f"subjects/{subject}_{camera}.json"
