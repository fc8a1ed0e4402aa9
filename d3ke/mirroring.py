"""Left and right exchanged: a mirrored picture of a person with the labels that belong to it.

A picture turned over shows a person whose left side is the other's right. On a model that is
symmetric about its x-y plane the mirrored pose is a pose of the same model: angles change sides
(and some their sign), measurement factors and markers change sides, and the root's rotation is
reflected on both sides, in the camera and in the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from d3ke.draws import Draws
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.losses import Target
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton
from d3ke.skeleton.predicted_default import other_side

Value = TypeVar("Value")


class Mirrored(NamedTuple):
    """A batch of which some samples are mirrored."""

    images: Tensor
    """[B,3,H,H]"""
    intrinsics: Tensor
    """[B,3,3] px."""
    target: Target


class Mirror(nn.Module):
    """Exchanges left and right in labels; a module, so that its tables follow the device.

    Raises:
        InvalidInputError: the predicted set has no mirror maps, or a measurement has no partner on
            the other side.
    """

    coordinate_partner: Tensor
    """[P] index of the same coordinate of the other side."""
    coordinate_sign: Tensor
    """[P] 1.0 or -1.0."""
    factor_partner: Tensor
    """[S]"""
    marker_partner: Tensor
    """[M]"""

    def __init__(
        self, skeleton: Skeleton, measurements: MeasurementSet, predicted: PredictedSet
    ) -> None:
        super().__init__()
        if not predicted.mirror_coordinates:
            raise InvalidInputError(
                f"mirroring skeleton {skeleton.name!r}",
                "its predicted set names no mirror coordinates: the model counts as not symmetric",
                "Set augmentation.mirror_probability to 0.",
            )
        names = predicted.coordinates
        partners = [_looked_up(predicted.mirror_coordinates, "coordinate", n) for n in names]
        markers = [_looked_up(predicted.mirror_markers, "marker", n) for n in skeleton.markers]
        tables = {
            "coordinate_partner": torch.tensor([_place(names, name) for name, _ in partners]),
            "coordinate_sign": torch.tensor([float(sign) for _, sign in partners]),
            "factor_partner": torch.tensor(_measurement_partners(measurements, predicted)),
            "marker_partner": torch.tensor(skeleton.index_of("marker", markers)),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def target(self, target: Target) -> Target:
        """Labels of the mirrored pictures."""
        partner = self.coordinate_partner
        marker_mask = target.marker_mask
        return target._replace(
            coordinates=target.coordinates[..., partner] * self.coordinate_sign,
            coordinate_mask=target.coordinate_mask[..., partner],
            factors=target.factors[..., self.factor_partner],
            root_rotation=mirror_rotation(target.root_rotation),
            marker_mask=None if marker_mask is None else marker_mask[..., self.marker_partner],
        )

    def some(
        self,
        images: Shaped[Tensor, "B 3 H H"],
        intrinsics: Shaped[Tensor, "B 3 3"],
        target: Target,
        draws: Draws,
        probability: float,
    ) -> Mirrored:
        """Mirrors each sample with the given probability."""
        chosen = draws.uniform(len(images), images.device) < probability
        turned = self.target(target)
        return Mirrored(
            _where(chosen, images.flip(-1), images),
            _where(chosen, mirror_intrinsics(intrinsics, images.shape[-1]), intrinsics),
            Target._make(
                None if old is None or new is None else _where(chosen, new, old)
                for new, old in zip(turned, target, strict=True)
            ),
        )


def mirror_rotation(rotation: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """Pelvis axes to camera axes of the mirrored picture: the camera's x and the body's z (its
    right) change sign."""
    camera = rotation.new_tensor([[-1.0], [1.0], [1.0]])
    body = rotation.new_tensor([1.0, 1.0, -1.0])
    return camera * rotation * body


def mirror_intrinsics(intrinsics: Shaped[Tensor, "*B 3 3"], width: int) -> Shaped[Tensor, "*B 3 3"]:
    """Camera of the picture turned over: pixel column u becomes width - 1 - u."""
    mirrored = intrinsics.clone()
    mirrored[..., 0, 2] = width - 1 - intrinsics[..., 0, 2]
    mirrored[..., 0, 1] = -intrinsics[..., 0, 1]
    return mirrored


def _where(chosen: Bool[Tensor, "B"], new: Tensor, old: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, *([1] * (old.ndim - 1))), new, old)


def _measurement_partners(measurements: MeasurementSet, predicted: PredictedSet) -> list[int]:
    """Index of each measurement's counterpart: the one between the mirrored markers, or, where
    marker pairs do not tell (none, or shared by several), the one that scales the other side."""
    own = [_pair_key(pairs) for pairs in measurements.marker_pairs.values()]
    scaled = [_axes_key(uses) for uses in measurements.body_axes.values()]
    bodies = {body for uses in measurements.body_axes.values() for body, _ in uses}
    partners = []
    for index, (name, pairs) in enumerate(measurements.marker_pairs.items()):
        if own[index] and own.count(own[index]) == 1:
            markers = predicted.mirror_markers
            wanted = _pair_key(
                [tuple(_looked_up(markers, "marker", marker) for marker in p) for p in pairs]
            )
            found, between = own, "goes between the same markers of"
        else:
            uses = measurements.body_axes[name]
            wanted = _axes_key([(other_side(body, bodies), axes) for body, axes in uses])
            found, between = scaled, "scales the same bodies of"
        if wanted not in found:
            raise InvalidInputError(
                f"mirroring measurement {name!r}",
                f"no measurement {between} the other side",
                "Set augmentation.mirror_probability to 0.",
            )
        partners.append(found.index(wanted))
    return partners


def _pair_key(pairs: Iterable[tuple[str, ...]]) -> frozenset[Any]:
    return frozenset(map(frozenset, pairs))


def _axes_key(uses: Iterable[tuple[str, str]]) -> frozenset[Any]:
    return frozenset((body, axis) for body, axes in uses for axis in axes)


def _looked_up(table: Mapping[str, Value], kind: str, name: str) -> Value:
    if name not in table:
        raise UnknownNameError(f"{kind} with a mirror image", name, table)
    return table[name]


def _place(names: tuple[str, ...], name: str) -> int:
    if name not in names:
        raise UnknownNameError("predicted coordinate", name, names)
    return names.index(name)
