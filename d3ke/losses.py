"""The training objective: equations 1 and 2 of the paper, with masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from d3ke.errors import InvalidInputError
from d3ke.networks.prediction import Estimate, PredictionHead, full_precision
from d3ke.rotations import geodesic_angle

DEGREES = 180 / torch.pi

FrameCount = Callable[[Tensor], Tensor]
"""What sums over frames are divided by, from the number of frames that count (a scalar)."""


def own_frames(count: Tensor) -> Tensor:
    """The batch's own frames; none count as one."""
    return count.clamp(min=1)


class Target(NamedTuple):
    """Labels of frames; whatever is masked or not finite is left out of every term."""

    coordinates: Tensor
    """[*B,P] rad."""
    coordinate_mask: Tensor
    """[*B,P] bool, True = valid."""
    factors: Tensor
    """[*B,S] measurement factors."""
    root_rotation: Tensor
    """[*B,3,3] pelvis axes to the axes of the crop's camera."""
    valid: Tensor | None = None
    """[*B] bool, False = padding of a sequence; None: all frames."""
    marker_mask: Tensor | None = None
    """[*B,M] bool in the order of skeleton.markers; None: all markers."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms of equation 1; the defaults are the paper's (section 2.2.2)."""

    joint: float = 1.0
    """lambda_1, per metre."""
    marker: float = 2.0
    """lambda_2, per metre."""
    body: float = 0.1
    """lambda_3, per unit of scale."""
    angle: float = 0.06
    """lambda_4, per degree (the paper names no unit; this one matches its training logs)."""
    root: float = 0.0
    """Error of the root rotation, per degree. 0 as in the paper: joints and markers turn with
    the pelvis, so their terms supervise it already."""
    velocity: float = 0.0
    """Error of the changes of angles and markers from frame to frame, relative to lambda_2 and
    lambda_4; sequences only. 0 as in the paper; 1 makes refined motion smoother (mean velocity
    27 -> 23 deg/s on noisy synthetic sequences) at the same angle error."""
    range_weighted: bool = True
    """Weigh angles by the range of the coordinate (1 to 2), as the paper's code does."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise InvalidInputError(f"loss weight {field.name}", "negative")


class _Positions(NamedTuple):
    joints: Tensor
    markers: Tensor


def d3ke_loss(
    head: PredictionHead,
    estimate: Estimate,
    target: Target,
    weights: LossWeights,
    frames: FrameCount = own_frames,
) -> dict[str, Tensor]:
    """Objective L of equation 1 and its terms, unweighted.

    Label positions are those of the skeletal-model layer at the label angles and factors, not
    the measured markers: those lie millimetres beside any pose of the model, a floor which no
    network can pass and which pulls the angles off their labels.

    Args:
        head: the head that made the estimate.
        estimate: estimates [*B,...]; sequences are [B,T,...].
        target: labels of the same batch.
        weights: weights of the terms.
        frames: where several workers share a batch, gives their mean number of frames that count,
            so that the mean of their losses is the loss of the whole batch.

    Returns:
        Scalars "joint" [m], "marker" [m, weighted by marker], "body", "angle" [deg, weighted by
        range], "root" [deg], for a positive weight "velocity" and the weighted sum "total". A
        batch without any valid label gives zeros, with zero gradients.

    Raises:
        InvalidInputError: a velocity term for estimates that are not sequences.
    """
    with full_precision(estimate.coordinates):
        estimate = Estimate(*(values.float() for values in estimate))
        target = _only_finite(estimate, target)
        positions, label_positions = _positions(head, estimate), _label_positions(head, target)
        angle_weights = head.angle_weights if weights.range_weighted else head.free_coordinates
        terms = {
            "joint": joint_term(positions.joints, label_positions.joints, target, frames),
            "marker": marker_term(head, positions.markers, label_positions.markers, target, frames),
            "body": body_term(head, estimate, target, frames),
            "angle": angle_term(estimate.coordinates, target, angle_weights, frames),
            "root": root_term(estimate, target, frames),
        }
        if weights.velocity:
            marker, angle = velocity_terms(
                head, estimate, target, positions, label_positions, angle_weights, frames
            )
            terms["velocity"] = weights.marker * marker + weights.angle * angle
        total = sum(getattr(weights, name) * value for name, value in terms.items())
        return {**terms, "total": total}


def joint_term(
    joints: Float[Tensor, "*batch J 3"],
    labels: Float[Tensor, "*batch J 3"],
    target: Target,
    frames: FrameCount = own_frames,
) -> Float[Tensor, ""]:
    """L_joint: equation 2, mean over joints."""
    distance = (joints - labels).abs().sum(dim=-1)
    return _frame_mean(distance.mean(dim=-1), _valid(target), frames)


def marker_term(
    head: PredictionHead,
    markers: Float[Tensor, "*batch K 3"],
    labels: Float[Tensor, "*batch K 3"],
    target: Target,
    frames: FrameCount = own_frames,
) -> Float[Tensor, ""]:
    """L_marker: equation 2 of the K supervised markers times their weights, mean over valid ones.

    The sum is divided by the number of valid markers, not of their weights (paper's code).
    """
    distance = (markers - labels).abs().sum(dim=-1) * head.marker_weights
    return _masked_mean(distance, _marker_mask(head, target), _valid(target), frames)


def body_term(
    head: PredictionHead, estimate: Estimate, target: Target, frames: FrameCount = own_frames
) -> Float[Tensor, ""]:
    """L_body: L1 norm of the scale errors of a body, mean over bodies that have a measurement.

    Scales are factors on the model as loaded, so that segments of any default size count alike.
    """
    scales = head.body_scales(estimate.factors)
    labels = head.body_scales(target.factors)
    error = (scales - labels).abs().sum(dim=-1)[..., head.measured_bodies]
    return _frame_mean(error.mean(dim=-1), _valid(target), frames)


def angle_term(
    coordinates: Float[Tensor, "*batch P"],
    target: Target,
    weights: Float[Tensor, "P"],
    frames: FrameCount = own_frames,
) -> Float[Tensor, ""]:
    """L_angle: absolute error in degrees times coordinate weights, mean over valid coordinates.

    Dependent coordinates have weight zero and do not count: they repeat their driver's error.
    """
    error = (coordinates - target.coordinates).abs() * DEGREES * weights
    return _masked_mean(error, target.coordinate_mask & (weights > 0), _valid(target), frames)


def root_term(
    estimate: Estimate, target: Target, frames: FrameCount = own_frames
) -> Float[Tensor, ""]:
    """Angle in degrees between estimated and labelled pelvis orientation."""
    angle = geodesic_angle(estimate.root_rotation, target.root_rotation) * DEGREES
    return _frame_mean(angle, _valid(target), frames)


def velocity_terms(
    head: PredictionHead,
    estimate: Estimate,
    target: Target,
    positions: _Positions,
    label_positions: _Positions,
    angle_weights: Float[Tensor, "P"],
    frames: FrameCount = own_frames,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Marker and angle term of the changes from frame to frame [B,T-1,...]."""
    if estimate.coordinates.ndim < 3:
        raise InvalidInputError(
            f"estimates of shape {tuple(estimate.coordinates.shape)}",
            "a velocity term needs sequences [B, T, P]",
            "Set the weight `velocity` to 0 for the per-frame network.",
        )
    mask, valid = target.coordinate_mask, _valid(target)
    markers = target.marker_mask
    change = target._replace(
        coordinates=target.coordinates.diff(dim=-2),
        coordinate_mask=mask[..., 1:, :] & mask[..., :-1, :],
        valid=valid[..., 1:] & valid[..., :-1],
        marker_mask=None if markers is None else markers[..., 1:, :] & markers[..., :-1, :],
    )
    moved, labels = positions.markers.diff(dim=-3), label_positions.markers.diff(dim=-3)
    angle = angle_term(estimate.coordinates.diff(dim=-2), change, angle_weights, frames)
    return marker_term(head, moved, labels, change, frames), angle


def _positions(head: PredictionHead, estimate: Estimate) -> _Positions:
    pose = head.pose(estimate)
    return _Positions(pose.joint_centers, pose.markers[..., head.marker_index, :])


@torch.no_grad()
def _label_positions(head: PredictionHead, target: Target) -> _Positions:
    labels = Estimate(target.coordinates, target.root_rotation, target.factors)
    return _positions(head, labels)


def _only_finite(estimate: Estimate, target: Target) -> Target:
    """Mask what is not finite and put the estimate there: NaN times a zero mask is still NaN."""
    coordinates = target.coordinates.to(estimate.coordinates.dtype)
    known = coordinates.isfinite()
    rotation = target.root_rotation.to(estimate.root_rotation.dtype)
    factors = target.factors.to(estimate.factors.dtype)
    usable = rotation.isfinite().flatten(-2).all(-1) & factors.isfinite().all(-1)
    return target._replace(
        coordinates=torch.where(known, coordinates, estimate.coordinates.detach()),
        coordinate_mask=target.coordinate_mask & known,
        factors=torch.where(usable[..., None], factors, estimate.factors.detach()),
        root_rotation=torch.where(
            usable[..., None, None], rotation, estimate.root_rotation.detach()
        ),
        valid=_valid(target) & usable,
    )


def _valid(target: Target) -> Bool[Tensor, "*batch"]:
    if target.valid is None:
        return torch.ones_like(target.coordinate_mask[..., 0])
    return target.valid


def _marker_mask(head: PredictionHead, target: Target) -> Bool[Tensor, "*batch K"]:
    if target.marker_mask is None:
        shape = (*target.coordinate_mask.shape[:-1], len(head.marker_index))
        return torch.ones(shape, dtype=torch.bool, device=target.coordinate_mask.device)
    return target.marker_mask[..., head.marker_index]


def _masked_mean(
    values: Float[Tensor, "*batch K"],
    mask: Bool[Tensor, "*batch K"],
    valid: Bool[Tensor, "*batch"],
    frames: FrameCount,
) -> Float[Tensor, ""]:
    """Mean over the valid entries of every frame, then over the frames that have any."""
    count = mask.sum(dim=-1)
    mean = torch.where(mask, values, 0.0).sum(dim=-1) / count.clamp(min=1)
    return _frame_mean(mean, valid & (count > 0), frames)


def _frame_mean(
    values: Float[Tensor, "*batch"], valid: Bool[Tensor, "*batch"], frames: FrameCount
) -> Float[Tensor, ""]:
    return torch.where(valid, values, 0.0).sum() / frames(valid.sum())
