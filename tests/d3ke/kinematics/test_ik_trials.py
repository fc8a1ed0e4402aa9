"""What ties frames together: smoothness, and the scale factors of a static trial."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from d3ke.errors import InvalidInputError
from d3ke.kinematics import MarkerSet, solve_ik
from d3ke.skeleton import MeasurementSet, SkeletalModelLayer, Skeleton

MARKERS = MarkerSet.builtin("smplh")
SKELETON = Skeleton.full_body().with_markers(MARKERS.names, MARKERS.bodies, MARKERS.locations)


def markers_at(coordinates, scales=None):
    given = None if scales is None else torch.from_numpy(scales)
    return SkeletalModelLayer(SKELETON)(torch.from_numpy(coordinates), given).markers.numpy()


def noisy_motion(frames):
    """A slow squat with 3 mm of independent noise: coordinates and markers."""
    poses = np.tile(SKELETON.coordinate_defaults, (frames, 1))
    bend = 0.5 * (1 - np.cos(np.linspace(0, 2 * np.pi, frames)))
    for name, change in (("hip_flexion_r", 0.8), ("hip_flexion_l", 0.8), ("elbow_flexion", 1.0)):
        poses[:, SKELETON.index_of("coordinate", name)] += change * bend
    noise = 0.003 * np.random.default_rng(0).normal(size=(frames, len(SKELETON.markers), 3))
    return poses, markers_at(poses) + noise


def test_smoothness_takes_noise_out_of_the_angles_and_keeps_the_motion():
    poses, markers = noisy_motion(60)
    alone = solve_ik(SKELETON, markers)
    tied = solve_ik(SKELETON, markers, smoothness=1e-3)
    error = [np.sqrt(np.square(r.coordinates - poses).mean()) for r in (alone, tied)]
    jitter = [np.abs(np.diff(r.coordinates, 2, axis=0)).mean() for r in (alone, tied)]
    assert error[1] < error[0] / 2
    assert jitter[1] < jitter[0] / 10
    assert tied.converged.all()
    hip = SKELETON.index_of("coordinate", "hip_flexion_r")
    assert np.ptp(tied.coordinates[:, hip]) > 0.7


def test_smoothness_bridges_a_gap_without_nan():
    _, markers = noisy_motion(30)
    markers[10:13] = np.nan
    found = solve_ik(SKELETON, markers, smoothness=1e-3)
    assert np.isfinite(found.coordinates).all()
    assert not found.solved[10:13].any()
    assert found.solved[:10].all()


@pytest.mark.slow
def test_scale_factors_of_a_static_trial():
    """Known factors, exact markers: the long bones' come back within two per cent."""
    measurements = MeasurementSet.full_body()
    generator = np.random.default_rng(1)
    factors = torch.from_numpy(generator.uniform(0.9, 1.15, len(measurements.names)))
    scales = measurements.body_scales(factors, SKELETON).numpy()
    found = solve_ik(
        SKELETON,
        markers_at(SKELETON.coordinate_defaults[None].copy(), scales),
        estimate_scales=measurements,
    )
    assert found.converged.all()
    assert found.rms_error() < 0.002
    for body, axis in (("femur_r", 1), ("tibia_l", 1), ("humerus", 1), ("pelvis", 2)):
        row = SKELETON.index_of("body", body)
        assert found.scales[row, axis] == pytest.approx(scales[row, axis], abs=0.02), body
    unscaled = solve_ik(SKELETON, found.marker_positions)
    assert found.rms_error() < unscaled.rms_error() / 3


def test_scales_are_given_or_estimated_not_both():
    ones = np.ones((len(SKELETON.bodies), 3))
    _, markers = noisy_motion(2)
    with pytest.raises(InvalidInputError, match="given scales"):
        solve_ik(SKELETON, markers, scales=ones, estimate_scales=True)
