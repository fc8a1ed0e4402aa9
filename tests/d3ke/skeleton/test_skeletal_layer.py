"""The layer: exactness for the built-in model, gradients, dtypes, shapes, compilation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from osim_models import REPOSITORY, SHARED, largest_error
from torch import Tensor

from d3ke import rotations
from d3ke.errors import InvalidInputError
from d3ke.skeleton import (
    Pose,
    SkeletalModelLayer,
    Skeleton,
    full_body_model_path,
    root_coordinates_from_pose,
)

SKELETON = Skeleton.full_body()
LAYER = SkeletalModelLayer(SKELETON)


def _inputs(
    *batch: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.from_numpy(np.clip(SKELETON.coordinate_ranges, -3, 3)).to(dtype).T
    share = torch.rand(*batch, len(SKELETON.coordinates), generator=generator, dtype=dtype)
    scales = torch.rand(*batch, len(SKELETON.bodies), 3, generator=generator, dtype=dtype)
    return low + (high - low) * share, 0.8 + 0.4 * scales


def _difference(a: Pose, b: Pose) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


def test_built_in_model_equals_opensim() -> None:
    path = full_body_model_path()
    assert largest_error(path, poses=200, skeleton=SKELETON) < 1e-9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_built_in_model_scaled_equals_opensim(seed: int) -> None:
    path = full_body_model_path()
    assert largest_error(path, poses=60, scaled=True, seed=seed, skeleton=SKELETON) < 1e-9


def test_shipped_skeleton_is_the_compiled_model() -> None:
    compiled = Skeleton.from_osim(full_body_model_path())
    assert compiled.content_hash() == SKELETON.content_hash()


def test_unit_scales_change_nothing() -> None:
    coordinates, scales = _inputs(3)
    ones = torch.ones_like(scales)
    assert _difference(LAYER(coordinates), LAYER(coordinates, ones)) < 1e-14


def test_values_of_coupled_coordinates_are_ignored() -> None:
    coordinates, _ = _inputs(2)
    changed = coordinates.clone()
    changed[:, SKELETON.index_of("coordinate", SKELETON.coupled)] += 1.0
    assert _difference(LAYER(coordinates), LAYER(changed)) == 0.0


def test_root_rotation_replaces_the_root_angles_only() -> None:
    coordinates, scales = _inputs(4)
    wanted = rotations.euler_to_matrix(torch.randn(4, 3, dtype=torch.float64), "XYZ")
    pose = LAYER(coordinates, scales, wanted)
    pelvis = SKELETON.index_of("body", "pelvis")
    assert (pose.body_rotations[:, pelvis] - wanted).abs().max() < 1e-14
    plain = LAYER(coordinates, scales)
    assert (pose.body_positions[:, pelvis] - plain.body_positions[:, pelvis]).abs().max() < 1e-14
    # The same posture, seen from the pelvis.
    for found in (pose, plain):
        relative = found.markers - found.body_positions[:, pelvis, None]
        local = rotations.apply(found.body_rotations[:, pelvis, None].mT, relative)
        reference = local if found is pose else reference
    assert (local - reference).abs().max() < 1e-13


@pytest.mark.parametrize("name", ["full body", "gait2354/gait2354_simbody.osim"])
def test_root_coordinates_invert_the_root_joint(name: str) -> None:
    skeleton = SKELETON
    if name != "full body":
        path = SHARED / "opensim-models" / name
        if not path.exists():
            pytest.skip(f"{name} is not beside the repository")
        skeleton = Skeleton.from_osim(path)
    layer = SkeletalModelLayer(skeleton)
    rotation = rotations.euler_to_matrix(torch.randn(20, 3, dtype=torch.float64), "ZXY")
    position = torch.randn(20, 3, dtype=torch.float64)
    coordinates = torch.zeros(20, len(skeleton.coordinates), dtype=torch.float64)
    index = skeleton.index_of("coordinate", skeleton.root_coordinates)
    coordinates[:, index] = root_coordinates_from_pose(skeleton, rotation, position)
    pose = layer(coordinates)
    root = int(skeleton.joint_children[skeleton.root_joint])
    assert (pose.body_rotations[:, root] - rotation).abs().max() < 1e-12
    assert (pose.body_positions[:, root] - position).abs().max() < 1e-12


def test_gradients_are_exact_with_respect_to_everything() -> None:
    names = (
        "pelvis_tilt",
        "pelvis_tx",
        "hip_flexion_r",
        "shoulder_elv",
        "elv_angle_l",
        "knee_angle_l",
    )
    index = SKELETON.index_of("coordinate", names)
    coordinates, scales = _inputs(1)
    bodies = SKELETON.index_of("body", ["pelvis", "thoracic5", "humerus"])
    marker_index = SKELETON.index_of("marker", ["RWRIST", "LANK"])

    def positions(values: Tensor, factors: Tensor, root: Tensor) -> Tensor:
        q = coordinates.clone().index_copy(-1, torch.from_numpy(index), values)
        s = scales.clone().index_copy(-2, torch.from_numpy(bodies), factors)
        plain, rooted = LAYER(q, s), LAYER(q, s, rotations.rotation_6d_to_matrix(root))
        return torch.cat([plain.markers[:, marker_index], rooted.joint_centers[:, ::20]], 1)

    root = torch.randn(1, 6, dtype=torch.float64)
    arguments = (coordinates[:, index].clone(), scales[:, bodies].clone(), root)
    assert torch.autograd.gradcheck(positions, [a.requires_grad_() for a in arguments])


def test_gradients_at_zero_angles_are_finite_and_exact() -> None:
    zero = torch.zeros(len(SKELETON.coordinates), dtype=torch.float64, requires_grad=True)
    knee = SKELETON.index_of("coordinate", "knee_angle_r")
    marker = SKELETON.index_of("marker", "RANK")
    (gradient,) = torch.autograd.grad(LAYER(zero).markers[marker, 0], zero)
    assert torch.isfinite(gradient).all()
    step = torch.zeros_like(zero)
    step[knee] = 1e-6
    with torch.no_grad():
        ahead, behind = (LAYER(zero + d).markers[marker, 0] for d in (step, -step))
    assert gradient[knee].item() == pytest.approx(float(ahead - behind) / 2e-6, abs=1e-8)
    assert gradient[knee].abs() > 0.1


def test_float32_follows_float64() -> None:
    coordinates, scales = _inputs(20)
    exact = LAYER(coordinates, scales)
    single = LAYER(coordinates.float(), scales.float())
    assert single.markers.dtype == torch.float32
    assert _difference(exact, Pose(*(part.double() for part in single))) < 5e-6


def test_half_precision_is_computed_in_float32() -> None:
    coordinates, _ = _inputs(2)
    rounded = coordinates.bfloat16()
    assert _difference(LAYER(rounded), LAYER(rounded.float())) == 0.0


def test_casting_the_module_keeps_its_constants_exact() -> None:
    coordinates, _ = _inputs(2)
    cast = SkeletalModelLayer(SKELETON).bfloat16().double()
    assert _difference(cast(coordinates), LAYER(coordinates)) == 0.0


def test_autocast_does_not_touch_positions() -> None:
    coordinates, scales = _inputs(2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LAYER(coordinates, scales)
    assert _difference(inside, LAYER(coordinates, scales)) == 0.0


def test_any_batch_shape_and_broadcasting() -> None:
    coordinates, scales = _inputs(2, 3)
    flat = LAYER(coordinates.reshape(6, -1), scales.reshape(6, -1, 3))
    nested = LAYER(coordinates, scales)
    assert nested.markers.shape == (2, 3, len(SKELETON.markers), 3)
    assert nested.body_rotations.shape == (2, 3, len(SKELETON.bodies), 3, 3)
    assert _difference(Pose(*(part.flatten(0, 1) for part in nested)), flat) < 1e-14
    shared = LAYER(coordinates, scales[0, 0])
    repeated = LAYER(coordinates, scales[0, 0].expand_as(scales))
    assert _difference(shared, repeated) < 1e-14
    assert LAYER(coordinates[0, 0]).joint_centers.shape == (len(SKELETON.joints), 3)


def test_no_parameters_no_state() -> None:
    assert not list(LAYER.parameters())
    assert not LAYER.state_dict()


def test_root_rotation_needs_a_root_joint() -> None:
    skeleton = Skeleton.full_body()
    fields = vars(skeleton) | {"root_joint": -1}
    rootless = SkeletalModelLayer(Skeleton(**fields))
    with pytest.raises(InvalidInputError, match="root joint"):
        rootless(_inputs()[0], None, torch.eye(3, dtype=torch.float64))
    with pytest.raises(InvalidInputError, match="root joint"):
        root_coordinates_from_pose(Skeleton(**fields), torch.eye(3), torch.zeros(3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu() -> None:
    coordinates, scales = _inputs(8)
    there = SkeletalModelLayer(SKELETON).cuda()(coordinates.cuda(), scales.cuda())
    here = LAYER(coordinates, scales)
    assert _difference(Pose(*(part.cpu() for part in there)), here) < 1e-12


COMPILED = """
import torch
from d3ke.rotations import rotation_6d_to_matrix
from d3ke.skeleton import SkeletalModelLayer, Skeleton
layer = SkeletalModelLayer(Skeleton.full_body())
compiled = torch.compile(layer, fullgraph=True)
generator = torch.Generator().manual_seed(0)
def rand(*shape):
    return torch.rand(*shape, generator=generator).double()
inputs = [rand(4, 95), 0.8 + 0.4 * rand(1, 58, 3), rotation_6d_to_matrix(rand(4, 6) - 0.5)]
weights = rand(4, len(layer.markers), 3), rand(4, 58, 3, 3)
for count in (1, 2, 3):
    leaves = [part.clone().requires_grad_() for part in inputs[:count]]
    found, expected = compiled(*leaves), layer(*leaves)
    assert max((a - b).abs().max() for a, b in zip(found, expected)) < 1e-13
    gradients = [
        torch.autograd.grad(
            (weights[0] * pose.markers).sum() + (weights[1] * pose.body_rotations).sum(), leaves
        )
        for pose in (found, expected)
    ]
    for one, two in zip(*gradients, strict=True):
        assert two.abs().max() > 0.1
        assert (one - two).abs().max() < 1e-12 * two.abs().max()
single = [part.float() for part in inputs]
with torch.no_grad():
    found, expected = compiled(*single), layer(*single)
assert max((a - b).abs().max() for a, b in zip(found, expected)) < 5e-6
"""


@pytest.mark.slow
def test_compiled_equals_eager() -> None:
    """In a process of its own: the shape checks of the tests break the graph in this one."""
    result = subprocess.run(
        [sys.executable, "-c", COMPILED], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
