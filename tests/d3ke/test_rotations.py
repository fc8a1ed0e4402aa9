"""Rotations against scipy, against finite differences, and at their degenerate points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from d3ke import rotations
from d3ke.errors import UnknownNameError


def _random(count: int, seed: int = 0) -> tuple[Rotation, torch.Tensor]:
    rotation = Rotation.random(count, random_state=seed)
    return rotation, torch.from_numpy(rotation.as_matrix())


def test_6d_round_trip_is_exact() -> None:
    _, matrices = _random(50)
    back = rotations.rotation_6d_to_matrix(rotations.matrix_to_rotation_6d(matrices))
    assert (back - matrices).abs().max() < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "x",
    [
        [0.0, 0, 0, 0, 0, 0],
        [1.0, 0, 0, 1, 0, 0],
        [0.0, 0, 0, 0, 1, 0],
        [1.0, 2, 3, 0, 0, 0],
        [1.0, 2, 3, 1 + 1e-6, 2, 3],
        [1e-8, 0, 0, 0, 1e-9, 0],
    ],
)
def test_6d_is_a_rotation_with_finite_gradient_when_degenerate(
    x: list[float], dtype: torch.dtype
) -> None:
    raw = torch.tensor(x, dtype=dtype, requires_grad=True)
    matrix = rotations.rotation_6d_to_matrix(raw)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert (matrix.T @ matrix - torch.eye(3, dtype=dtype)).abs().max() < tolerance
    assert torch.linalg.det(matrix).item() == pytest.approx(1.0, abs=tolerance)
    weights = torch.arange(9.0, dtype=dtype).reshape(3, 3)
    (gradient,) = torch.autograd.grad((matrix * weights).sum(), raw)
    assert torch.isfinite(gradient).all()


def test_6d_gradient() -> None:
    raw = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(rotations.rotation_6d_to_matrix, raw.requires_grad_())


def test_axis_angle_equals_scipy() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(40, 3))
    angles = np.linalg.norm(vectors, axis=-1)
    ours = rotations.axis_angle_to_matrix(
        torch.from_numpy(vectors / angles[:, None]), torch.from_numpy(angles)
    )
    assert np.abs(ours.numpy() - Rotation.from_rotvec(vectors).as_matrix()).max() < 1e-14


@pytest.mark.parametrize("sequence", rotations.EULER_SEQUENCES)
def test_euler_equals_scipy_both_ways(sequence: str) -> None:
    reference, matrices = _random(60)
    angles = torch.from_numpy(reference.as_euler(sequence))
    assert (rotations.matrix_to_euler(matrices, sequence) - angles).abs().max() < 1e-12
    assert (rotations.euler_to_matrix(angles, sequence) - matrices).abs().max() < 1e-13


@pytest.mark.parametrize("middle", [np.pi / 2, -np.pi / 2])
def test_euler_at_gimbal_lock_gives_the_same_rotation(middle: float) -> None:
    angles = torch.tensor([0.4, middle, -0.3], dtype=torch.float64)
    matrix = rotations.euler_to_matrix(angles, "ZXY").requires_grad_()
    found = rotations.matrix_to_euler(matrix, "ZXY")
    assert torch.isfinite(torch.autograd.grad(found.sum(), matrix)[0]).all()
    assert found[1].item() == pytest.approx(middle, abs=1e-7)


def test_unknown_sequence_names_the_valid_ones() -> None:
    with pytest.raises(UnknownNameError, match="ZXY"):
        rotations.euler_to_matrix(torch.zeros(3), "ZXZ")


@settings(max_examples=40, deadline=None)
@given(st.floats(0, np.pi), st.integers(0, 1000))
def test_geodesic_angle_is_the_angle_turned(angle: float, seed: int) -> None:
    _, start = _random(1, seed)
    axis = torch.nn.functional.normalize(
        torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=0
    )
    turn = rotations.axis_angle_to_matrix(axis, torch.tensor(angle, dtype=torch.float64))
    assert rotations.geodesic_angle(start[0], start[0] @ turn).item() == pytest.approx(
        angle, abs=1e-7
    )


def test_geodesic_angle_has_a_finite_gradient_at_zero() -> None:
    a = torch.eye(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(rotations.geodesic_angle(a, torch.eye(3)), a)
    assert torch.isfinite(gradient).all()


def test_products_equal_matmul() -> None:
    _, a = _random(5, 1)
    _, b = _random(5, 2)
    v = torch.randn(5, 3, dtype=torch.float64)
    assert (rotations.multiply(a, b) - a @ b).abs().max() < 1e-15
    assert (rotations.apply(a, v) - (a @ v[..., None])[..., 0]).abs().max() < 1e-14
