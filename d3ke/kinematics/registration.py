"""Finds where markers sit on a skeleton from people measured in its default pose.

A marker set is made for one kind of body: an epicondyle marker on a mesh is not where the model's
author put it. Fitting offsets from moving trials lets them drift with the joint angles (a bent
knee and a shifted marker look alike). Here the pose is known instead: the person stands as the
model does by default, so what is left between model and measurement is the markers' own offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from d3ke.arrays import FloatArray
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.rigid_fit import fit_rigid
from d3ke.kinematics.scaling import measurement_factors
from d3ke.kinematics.trc import MarkerTrajectories
from d3ke.skeleton import MeasurementSet, Pose, SkeletalModelLayer, Skeleton


def register_markers(
    *,
    skeleton: Skeleton,
    marker_set: MarkerSet,
    measurements: MeasurementSet,
    statics: Sequence[MarkerTrajectories],
    joint_centers: Mapping[str, str],
    fit_weights: Mapping[str, float],
    limbs: Mapping[str, tuple[str, str]] | None = None,
    rounds: int = 3,
) -> MarkerSet:
    """Moves the markers of a set to where people carry them on the unscaled skeleton.

    Every round scales the skeleton to each person, lays the measured markers rigidly on its
    default pose and takes the mean of their places on the unscaled bodies, left and right
    mirrored. A few rounds are enough, and more do harm: a distance with parts along two axes
    slowly pulls their factors together.

    Args:
        skeleton: the generic skeleton.
        marker_set: where to start; bodies and uses are kept.
        measurements: must size the body by distances that mean the same on person and skeleton
            before registration, such as those between joint centres.
        statics: one trial a person in the skeleton's default pose, all markers measured.
        joint_centers: marker -> joint whose centre it marks; it is put there and stays.
        fit_weights: marker -> weight in the rigid fit; others 0.
        limbs: body -> markers of the joints at its two ends. Its markers are laid along it: the
            skeleton's default pose need not be quite the person's, a straight arm not quite
            straight.
        rounds: how often.

    Raises:
        KinematicsError: a measurement lacks a marker.
    """
    current = replace(
        marker_set, locations=_with_joint_centers(skeleton, marker_set, joint_centers)
    )
    moving = np.array([name not in joint_centers for name in current.names])[:, None]
    weights = np.array([fit_weights.get(name, 0.0) for name in current.names])
    for _ in range(rounds):
        places = [
            _places(skeleton, current, measurements, person, weights, limbs or {})
            for person in statics
        ]
        found = mirrored_mean(current.names, np.mean(places, axis=0))
        current = replace(current, locations=np.where(moving, found, current.locations))
    return current


def mirror_name(name: str, names: Sequence[str]) -> str:
    """The marker of `names` on the other side of the body; itself if it lies in the middle.

    Follows the reference's rule: R or L stands first, behind `Virtual_` or `Virtual_Ground_`.
    """
    prefix = next(p for p in ("Virtual_Ground_", "Virtual_", "") if name.startswith(p))
    side, rest = name[len(prefix) : len(prefix) + 1], name[len(prefix) + 1 :]
    mirror = prefix + {"R": "L", "L": "R"}.get(side, side) + rest
    return mirror if mirror in names else name


def mirrored_mean(names: Sequence[str], locations: FloatArray) -> FloatArray:
    """[M, 3] m, each the mean of a marker and its mirror image (z turned), so that sides agree.

    Markers without a partner lie in the mid-plane afterwards.
    """
    partners = [names.index(mirror_name(name, names)) for name in names]
    return (locations + locations[partners] * [1.0, 1.0, -1.0]) / 2.0


def _default_pose(
    skeleton: Skeleton, marker_set: MarkerSet, scales: FloatArray | None = None
) -> Pose:
    """The skeleton with these markers in its default pose, ground frame, float64."""
    own = skeleton.with_markers(marker_set.names, marker_set.bodies, marker_set.locations)
    coordinates = torch.from_numpy(skeleton.coordinate_defaults.copy())
    with torch.no_grad():
        pose: Pose = SkeletalModelLayer(own)(
            coordinates, None if scales is None else torch.from_numpy(scales)
        )
    return pose


def _with_joint_centers(
    skeleton: Skeleton, marker_set: MarkerSet, joint_centers: Mapping[str, str]
) -> FloatArray:
    pose = _default_pose(skeleton, marker_set)
    points = pose.markers.numpy().copy()
    for marker, joint in joint_centers.items():
        center = pose.joint_centers[skeleton.index_of("joint", joint)]
        points[marker_set.index(marker)] = center.numpy()
    local = _in_bodies(skeleton, marker_set, pose, points)
    chosen = np.isin(marker_set.names, list(joint_centers))[:, None]
    return np.where(chosen, local, marker_set.locations)


def _places(
    skeleton: Skeleton,
    marker_set: MarkerSet,
    measurements: MeasurementSet,
    static: MarkerTrajectories,
    weights: FloatArray,
    limbs: Mapping[str, tuple[str, str]],
) -> FloatArray:
    """Where one person's markers lie on the unscaled bodies, [M, 3] m."""
    measured = static.reordered(marker_set.names)
    unscaled = _default_pose(skeleton, marker_set).markers.numpy()
    factors = measurement_factors(measurements, marker_set.names, measured, unscaled)
    scales = measurements.body_scales(torch.from_numpy(factors), skeleton).numpy()
    pose = _default_pose(skeleton, marker_set, scales)
    points = measured.positions.mean(axis=0)
    rotation, shift = fit_rigid(points, pose.markers.numpy(), weights)
    points = points @ rotation.T + shift
    for body, ends in limbs.items():
        first, last = (marker_set.index(end) for end in ends)
        on_body = np.array([name == body for name in marker_set.bodies])
        modelled = pose.markers.numpy()
        turn = _turn(points[last] - points[first], modelled[last] - modelled[first])
        points[on_body] = (points[on_body] - points[last]) @ turn.T + modelled[last]
    local = _in_bodies(skeleton, marker_set, pose, points)
    return local / scales[skeleton.index_of("body", marker_set.bodies)]


def _turn(start: FloatArray, end: FloatArray) -> FloatArray:
    """The smallest rotation [3, 3] that turns one direction into another."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis = np.cross(start, end)
    across = np.array(
        [[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]], float
    )
    return np.asarray(np.eye(3) + across + across @ across / (1.0 + start @ end))


def _in_bodies(
    skeleton: Skeleton, marker_set: MarkerSet, pose: Pose, points: FloatArray
) -> FloatArray:
    """Points [M, 3] m from ground into the frames of the markers' bodies."""
    bodies = skeleton.index_of("body", marker_set.bodies)
    rotations = pose.body_rotations.numpy()[bodies]
    offsets = points - pose.body_positions.numpy()[bodies]
    return np.einsum("mji,mj->mi", rotations, offsets)
