"""Makes the marker set "mediapipe": where the landmarker's landmarks lie on the built-in model.

A landmark is a point that people marked in pictures, not a joint centre. Its place on the bones is
measured here: people whose skeleton is known (Anny bodies, labelled through their own markers) are
rendered for a ring of cameras, the landmarker looks at the pictures, its landmarks are triangulated
and expressed in the axes of the scaled model's bodies. The median over a person's movements, then
the mean over people, left and right mirrored, is the landmark's place.

Run `python -m d3ke_platform.sources.landmark_registration POSE_MODEL.task OUTPUT.json` after a
change of the built-in model or of the marker set "anny"; the result ships as
d3ke/kinematics/marker_sets/mediapipe.json. It takes about five minutes on two free cores. The lines
of `keypoint_model.GIRDLE` are `girdle_lines` of the same sightings.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from d3ke.arrays import FloatArray
from d3ke.camera import Camera
from d3ke.kinematics import MarkerSet, scale_subject, solve_ik
from d3ke.kinematics.triangulation import TriangulationSettings, triangulate
from d3ke_platform.sources.anny_body import AnnyBody, BodyMotion, t_pose_rotations
from d3ke_platform.sources.anny_markers import static_markers, virtual_markers
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.anny_registration import registration_phenotypes
from d3ke_platform.sources.appearance import dress, sample_appearance
from d3ke_platform.sources.keypoint_model import GIRDLE, write_keypoint_model
from d3ke_platform.sources.landmarks import (
    LANDMARKS,
    MIDPOINTS,
    landmark_marker_set,
    other_side,
)
from d3ke_platform.sources.motions import make_motion, sample_motion_style
from d3ke_platform.sources.movement_table import DEFAULT_MOVEMENTS
from d3ke_platform.sources.scene import Scene
from d3ke_platform.stages.decode import Frame
from d3ke_platform.stages.detect_mediapipe import LANDMARK_NAMES, MediaPipeDetector

if TYPE_CHECKING:
    from d3ke.skeleton import Skeleton

_PICTURE_PX = 480
_CAMERA_DISTANCE_M = 2.95  # inside the scene's walls
_FIELD_OF_VIEW_DEG = 52.0
_CAMERA_DIRECTIONS_DEG = (15.0, 87.0, 159.0, 231.0, 303.0)
_RATE_HZ, _SECONDS = 10.0, 1.2
_LEAST_VIEWS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Sighting:
    """One person's landmarks on the bones of the unscaled model."""

    places: FloatArray
    """[T, K, 3] m, in the axes of the bodies of `LANDMARKS`; NaN where too few views agree."""
    coordinates: FloatArray
    """[T, Q] rad or m, of the person's labels."""


def ring_of_cameras() -> list[Camera]:
    """Five cameras all round the person, at about the height of the chest."""
    focal = _PICTURE_PX / 2 / math.tan(math.radians(_FIELD_OF_VIEW_DEG) / 2)
    return [
        Camera.looking_at(
            np.array(
                [
                    _CAMERA_DISTANCE_M * math.cos(math.radians(angle)),
                    1.35,
                    _CAMERA_DISTANCE_M * math.sin(math.radians(angle)),
                ]
            ),
            np.array([0.0, 0.95, 0.0]),
            focal=focal,
            size=(_PICTURE_PX, _PICTURE_PX),
        )
        for angle in _CAMERA_DIRECTIONS_DEG
    ]


def places_on_model(
    skeleton: Skeleton,
    coordinates: FloatArray,
    body_scales: FloatArray,
    points: FloatArray,
    bodies: Sequence[str],
) -> FloatArray:
    """Points in the axes of bodies of the unscaled model.

    Args:
        skeleton: the unscaled model.
        coordinates: [T, Q] rad or m.
        body_scales: [N, 3] the person's.
        points: [T, K, 3] m, ground.
        bodies: K bodies that the points are fixed to.

    Returns:
        [T, K, 3] m.
    """
    from d3ke.skeleton import SkeletalModelLayer

    with torch.no_grad():
        pose = SkeletalModelLayer(skeleton)(torch.tensor(coordinates), torch.tensor(body_scales))
    index = skeleton.index_of("body", list(bodies))
    offsets = points - pose.body_positions.numpy()[:, index]
    local = np.einsum("tkji,tkj->tki", pose.body_rotations.numpy()[:, index], offsets)
    return np.asarray(local / body_scales[index])


def median_places(sightings: Sequence[Sighting]) -> FloatArray:
    """[K, 3] m: of each person the median over frames, of these the mean; sides agree."""
    each = [np.nanmedian(sighting.places, axis=0) for sighting in sightings]
    mean = np.mean(each, axis=0)
    names = list(LANDMARKS)
    partners = [names.index(other_side(name)) for name in names]
    return np.asarray((mean + mean[partners] * [1.0, 1.0, -1.0]) / 2.0)


def with_middles(places: FloatArray) -> MarkerSet:
    """The marker set with the middles of hips, shoulders and ears, at the model's default pose."""
    from d3ke.skeleton import SkeletalModelLayer, Skeleton

    landmarks = landmark_marker_set(places)
    with tempfile.TemporaryDirectory(prefix="d3ke-") as folder:
        path = Path(folder) / "model.osim"
        write_keypoint_model(path, landmarks)
        skeleton = Skeleton.from_osim(path)
    with torch.no_grad():
        pose = SkeletalModelLayer(skeleton)(torch.tensor(skeleton.coordinate_defaults))
    positions = pose.markers.numpy()
    middles = []
    for name, body in MIDPOINTS.items():
        sides = [f"{side}_{name.removeprefix('mid_')}" for side in ("right", "left")]
        point = positions[skeleton.index_of("marker", sides)].mean(axis=0)
        index = skeleton.index_of("body", body)
        rotation, origin = pose.body_rotations[index].numpy(), pose.body_positions[index].numpy()
        middles.append(rotation.T @ (point - origin))
    return landmark_marker_set(places, np.array(middles))


def girdle_lines(
    skeleton: Skeleton, sightings: Sequence[Sighting]
) -> dict[str, tuple[float, float]]:
    """Slope and constant [rad] of each coordinate of `GIRDLE` over arm elevation, of both sides."""
    labels = np.concatenate([sighting.coordinates for sighting in sightings])

    def both_sides(name: str) -> FloatArray:
        sides = skeleton.index_of("coordinate", [name, f"{name}_l"])
        return np.asarray(labels[:, sides].ravel())

    raised = both_sides("shoulder_elv")
    lines = {name: np.polyfit(raised, both_sides(name), 1) for name in GIRDLE}
    return {name: (float(slope), float(constant)) for name, (slope, constant) in lines.items()}


class Studio:
    """Renders people in movement and sees them through the landmarker."""

    def __init__(self, task_file: str) -> None:
        from d3ke.skeleton import MeasurementSet, Skeleton

        self._body = AnnyBody()
        self._scene = Scene(self._body.faces, len(self._body.dominant_bones), _PICTURE_PX)
        self._detector = MediaPipeDetector(task_file)
        self._cameras = ring_of_cameras()
        self._skeleton = Skeleton.full_body()
        self._markers = MarkerSet.builtin("anny")
        self._measurements = MeasurementSet.full_body()

    def sight(self, phenotype: Phenotype, rng: np.random.Generator) -> Sighting:
        """One person in all movements."""
        from d3ke.skeleton import full_body_model_path

        self._dress(phenotype, rng)
        with tempfile.TemporaryDirectory(prefix="d3ke-") as folder:
            scaled = scale_subject(
                model_path=full_body_model_path(),
                marker_set=self._markers,
                measurements=self._measurements,
                static=static_markers(self._body, phenotype),
                mass_kg=75.0,
                output_path=Path(folder) / "person.osim",
            )
            solver = _Labels(scaled.model_path, self._markers)
            style = sample_motion_style(rng)
            places, coordinates = [], []
            for movement in DEFAULT_MOVEMENTS:
                motion = make_motion(
                    movement, rate_hz=_RATE_HZ, seconds=_SECONDS, style=style, rng=rng
                )
                moved = self._body.pose(
                    phenotype, motion.segment_rotations, motion.root_position, grounding="frame"
                )
                labels = solver.coordinates(virtual_markers(self._body, moved).positions)
                points = self._landmarks(moved)
                bodies = list(LANDMARKS.values())
                places.append(
                    places_on_model(self._skeleton, labels, scaled.body_scales, points, bodies)
                )
                coordinates.append(labels)
        return Sighting(places=np.concatenate(places), coordinates=np.concatenate(coordinates))

    def _dress(self, phenotype: Phenotype, rng: np.random.Generator) -> None:
        standing = self._body.pose(
            phenotype, t_pose_rotations(1), np.zeros((1, 3)), grounding="frame"
        )
        self._scene.furnish(rng)
        self._scene.light(rng)
        joints = {bone: at[0] for bone, at in standing.joints.items()}
        self._scene.dress(
            dress(
                sample_appearance(rng),
                standing.vertices[0],
                joints,
                self._body.dominant_bones,
                rng,
            )
        )

    def _landmarks(self, moved: BodyMotion) -> FloatArray:
        """[T, K, 3] m in ground: landmarks of all pictures, triangulated."""
        pixels, confidence = [], []
        for camera in self._cameras:
            found = list(self._detector.landmarks(self._pictures(moved, camera)))
            blank = np.full((33, 2), np.nan)
            pixels.append([blank if f is None else f.pixels for f in found])
            confidence.append([np.zeros(33) if f is None else f.visibility for f in found])
        chosen = [LANDMARK_NAMES.index(name) for name in LANDMARKS]
        seen = triangulate(
            self._cameras,
            np.array(pixels)[:, :, chosen],
            np.array(confidence)[:, :, chosen],
            TriangulationSettings(
                min_views=_LEAST_VIEWS, scale_px=4.0, outlier_px=12.0, max_error_px=12.0
            ),
        )
        return seen.points

    def _pictures(self, moved: BodyMotion, camera: Camera) -> Iterator[Frame]:
        for index, vertices in enumerate(moved.vertices):
            self._scene.pose(vertices)
            image = np.ascontiguousarray(self._scene.picture(camera))
            yield Frame(index=index, time_s=index / _RATE_HZ, image=image)


class _Labels:
    """Joint angles of a person from the mesh's own markers."""

    def __init__(self, model_path: Path, markers: MarkerSet) -> None:
        from d3ke.skeleton import Skeleton

        self._skeleton = Skeleton.from_osim(model_path)
        self._markers = markers
        self._weights: Mapping[str, float] = dict(
            zip(markers.names, map(float, markers.ik_weights), strict=True)
        )

    def coordinates(self, positions: FloatArray) -> FloatArray:
        """[T, Q] of the markers [T, M, 3] m in the set's order."""
        solved = solve_ik(
            self._skeleton, positions, self._weights, marker_names=self._markers.names
        )
        return np.asarray(solved.coordinates)


def register_landmarks(task_file: str) -> tuple[MarkerSet, list[Sighting]]:
    """The marker set "mediapipe", and what it rests on."""
    studio = Studio(task_file)
    sightings = [
        studio.sight(phenotype, np.random.default_rng([33, number]))
        for number, phenotype in enumerate(registration_phenotypes())
    ]
    return with_middles(median_places(sightings)), sightings


def main() -> None:
    """Registers with the landmarker and writes the file named on the command line."""
    task_file, output = sys.argv[1:3]
    registered, _ = register_landmarks(task_file)
    registered.save(output)


if __name__ == "__main__":
    main()
