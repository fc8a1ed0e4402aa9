"""A rendered person, mirrored with its labels: the labels must lie on the mirrored person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from d3ke.camera import Camera
from d3ke.draws import Draws
from d3ke.kinematics import MarkerSet, inverse_kinematics, scale_subject
from d3ke.losses import Target
from d3ke.mirroring import Mirror
from d3ke.networks import Estimate, PredictionHead
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton, full_body_model_path
from d3ke_platform.sources.anny_body import AnnyBody
from d3ke_platform.sources.anny_markers import static_markers, virtual_markers
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.appearance import Outfit
from d3ke_platform.sources.motions import MotionStyle, make_motion
from d3ke_platform.sources.scene import Scene

SIZE = 320
MAGENTA = (255, 0, 255)
FRAME = 11


@pytest.fixture(scope="module")
def person():
    """One frame of a kick, on one leg: the body and its markers."""
    body = AnnyBody()
    motion = make_motion(
        "kick", rate_hz=10, seconds=2.5, style=MotionStyle(), rng=np.random.default_rng(0)
    )
    one = {name: turns[[FRAME]] for name, turns in motion.segment_rotations.items()}
    moved = body.pose(Phenotype(), one, motion.root_position[[FRAME]], grounding="frame")
    return body, moved


def label(body: AnnyBody, moved, folder: Path) -> tuple[Skeleton, Estimate, np.ndarray]:
    """OpenSim's labels of the frame: the skeleton, predicted coordinates, rotation (pelvis to
    ground) and factors, and the pelvis' place."""
    markers = MarkerSet.builtin("anny")
    generic = folder / "generic.osim"
    markers.apply_to_model(full_body_model_path(), generic)
    scaled = scale_subject(
        model_path=generic,
        marker_set=markers,
        measurements=MeasurementSet.full_body(),
        static=static_markers(body, Phenotype()),
        mass_kg=70.0,
        output_path=folder / "subject.osim",
    )
    solved = inverse_kinematics(
        model_path=scaled.model_path,
        trajectories=virtual_markers(body, moved),
        weights=dict(zip(markers.names, markers.ik_weights, strict=True)),
    )
    assert solved.rms_error(np.sign(markers.ik_weights)) < 0.012
    skeleton = Skeleton.from_osim(generic)
    head = PredictionHead(skeleton, MeasurementSet.full_body(), PredictedSet.full_body())
    pose = head.layer(torch.from_numpy(solved.coordinates), torch.from_numpy(scaled.body_scales))
    chosen = skeleton.index_of("coordinate", PredictedSet.full_body().coordinates)
    estimate = Estimate(
        torch.from_numpy(solved.coordinates[:, chosen]).float(),
        pose.body_rotations[:, head.root_body].float(),
        torch.from_numpy(scaled.measurement_factors[None]).float(),
    )
    return skeleton, estimate, pose.body_positions[0, head.root_body].numpy()


def test_mirrored_labels_lie_on_the_mirrored_person(person, tmp_path: Path) -> None:
    body, moved = person
    skeleton, in_ground, pelvis = label(body, moved, tmp_path)
    measurements, predicted = MeasurementSet.full_body(), PredictedSet.full_body()
    camera = Camera.looking_at(
        np.array([3.5, 1.2, 1.0]), pelvis, focal=1.1 * SIZE, size=(SIZE, SIZE)
    )
    silhouette = rendered(body, moved.vertices[0], camera)
    target = Target(
        coordinates=in_ground.coordinates,
        coordinate_mask=torch.ones_like(in_ground.coordinates, dtype=torch.bool),
        factors=in_ground.factors,
        root_rotation=torch.from_numpy(camera.rotation.copy()).float() @ in_ground.root_rotation,
    )
    mirrored = Mirror(skeleton, measurements, predicted).some(
        torch.from_numpy(silhouette)[None, None].expand(1, 3, -1, -1),
        torch.from_numpy(camera.intrinsics.copy()).float()[None],
        target,
        Draws(torch.Generator().manual_seed(0)),
        1.0,
    )
    place = camera.rotation @ pelvis + camera.translation
    head = PredictionHead(skeleton, measurements, predicted)

    def share_on_person(
        labels: Target, at: np.ndarray, intrinsics: np.ndarray, picture: np.ndarray
    ) -> float:
        """Of the model's joint centres, as the camera sees them."""
        pose = head.pose(Estimate(labels.coordinates, labels.root_rotation, labels.factors))
        seen = (pose.joint_centers[0].numpy() + at) @ intrinsics.T
        columns, rows = np.rint(seen[:, :2] / seen[:, 2:]).astype(int).T
        return float(picture[rows, columns].mean())

    before = share_on_person(target, place, camera.intrinsics, silhouette)
    turned = (
        place * [-1.0, 1.0, 1.0],
        mirrored.intrinsics[0].numpy(),
        mirrored.images[0, 0].numpy(),
    )
    assert before > 0.9
    assert share_on_person(mirrored.target, *turned) == pytest.approx(before, abs=0.02)
    # A turned body whose sides are not exchanged does not cover it.
    only_turned = target._replace(root_rotation=mirrored.target.root_rotation)
    assert share_on_person(only_turned, *turned) < 0.85


def rendered(body: AnnyBody, vertices: np.ndarray, camera: Camera) -> np.ndarray:
    """[SIZE, SIZE] True where the picture shows the person."""
    scene = Scene(body.faces, len(body.dominant_bones), SIZE)
    try:
        scene.furnish(np.random.default_rng(1))
        scene.light(np.random.default_rng(1))
        count = len(vertices)
        scene.dress(Outfit(np.tile(np.uint8(MAGENTA), (count, 1)), np.zeros(count)))
        scene.pose(vertices)
        red, green, blue = scene.picture(camera).astype(int).transpose(2, 0, 1)
    finally:
        scene.close()
    return (red > 40) & (blue > 40) & (green < 0.4 * red) & (green < 0.4 * blue)
