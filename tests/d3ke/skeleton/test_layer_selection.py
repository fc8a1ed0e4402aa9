"""The layer of some coordinates, bodies, joints and markers only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from osim_models import SmallModel, functions, linear
from torch import Tensor

from d3ke.errors import UnknownNameError
from d3ke.skeleton import Pose, SkeletalModelLayer, Skeleton

SKELETON = Skeleton.full_body()
LAYER = SkeletalModelLayer(SKELETON)
EXACT = 1e-14  # m, or without a unit


def _inputs(*batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.from_numpy(np.clip(SKELETON.coordinate_ranges, -3, 3)).T
    share = torch.rand(*batch, len(low), generator=generator, dtype=torch.float64)
    scales = torch.rand(*batch, len(SKELETON.bodies), 3, generator=generator, dtype=torch.float64)
    return low + (high - low) * share, 0.8 + 0.4 * scales


def _difference(found: Pose, expected: Pose) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(found, expected, strict=True))


def _columns(names: tuple[str, ...]) -> Tensor:
    return torch.from_numpy(SKELETON.index_of("coordinate", names))


@pytest.mark.parametrize("is_scaled", [False, True])
def test_other_coordinates_stay_at_their_defaults(is_scaled: bool) -> None:
    # In no particular order; defaults of the shoulder are not zero, and it drives couplers.
    names = ("knee_angle_l", "shoulder_elv", "pelvis_tx", "sternoclavicular_r2", "L5_S1_FE")
    coordinates, scales = _inputs(6)
    index = _columns(names)
    whole = torch.tensor(SKELETON.coordinate_defaults).repeat(6, 1)
    whole[:, index] = coordinates[:, index]
    more = (scales,) if is_scaled else ()
    found = SkeletalModelLayer(SKELETON, coordinates=names)(coordinates[:, index], *more)
    expected = LAYER(whole, *more)
    assert _difference(found, expected) < EXACT
    assert _difference(found, LAYER(torch.zeros_like(whole), *more)) > 0.1


def test_couplers_hold_with_a_driver_at_its_default() -> None:
    """Whatever the default of a coupled coordinate, its driver determines it."""
    fields = vars(SKELETON) | {"coordinate_defaults": SKELETON.coordinate_defaults.copy()}
    moved = _columns(("sternoclavicular_r2", "shoulder_elv_l"))
    fields["coordinate_defaults"][moved] += 0.3
    fields["coordinate_defaults"][_columns(SKELETON.coupled)] = 9.0
    changed = Skeleton(**fields)
    found = SkeletalModelLayer(changed, coordinates=["elbow_flexion"])(
        torch.zeros(1, 1, dtype=torch.float64)
    )
    whole = torch.tensor(SKELETON.coordinate_defaults)[None].clone()
    whole[:, moved] += 0.3
    whole[:, _columns(("elbow_flexion",))] = 0.0
    assert _difference(found, LAYER(whole)) < EXACT


def test_splines_of_coordinates_at_their_defaults(tmp_path: Path) -> None:
    model = SmallModel()
    joint = model.custom_joint(
        {
            0: (functions()["SimmSpline"], ["a"]),
            1: (linear(1.0), ["b"]),
            4: (functions()["PolynomialFunction"], ["c"]),
        }
    )
    for number in range(joint.numCoordinates()):
        joint.upd_coordinates(number).setDefaultValue(0.2 + 0.3 * number)
    model.coupler("b", ["a"], functions()["GCVSpline of degree 3"])
    skeleton = Skeleton.from_osim(model.save(tmp_path))
    values = torch.tensor(skeleton.coordinate_defaults).repeat(3, 1)
    column = skeleton.index_of("coordinate", "c")
    values[:, column] = torch.tensor([-0.8, 0.1, 1.2])
    found = SkeletalModelLayer(skeleton, coordinates=["c"])(values[:, column, None])
    assert _difference(found, SkeletalModelLayer(skeleton)(values)) < EXACT
    # No coordinate at all: the default pose.
    still = SkeletalModelLayer(skeleton, coordinates=[])(values[:, :0])
    values[:, column] = float(skeleton.coordinate_defaults[column])
    assert _difference(still, SkeletalModelLayer(skeleton)(values)) < EXACT


def test_a_coupled_coordinate_may_be_selected_and_is_ignored() -> None:
    names = ("sternoclavicular_r2", SKELETON.coupled[0])
    layer = SkeletalModelLayer(SKELETON, coordinates=names)
    values = torch.tensor([[0.3, 0.0], [0.3, 1.0]], dtype=torch.float64)
    markers = layer(values).markers
    assert torch.equal(markers[0], markers[1])


@pytest.mark.parametrize("is_scaled", [False, True])
def test_rows_in_another_order(is_scaled: bool) -> None:
    names = {
        "bodies": ("ulna_l", "pelvis", "toes_r"),
        "joints": (SKELETON.joints[30], SKELETON.joints[4], SKELETON.joints[4]),
        "markers": ("RTOE", "C7", "LELB", "RASI"),
    }
    coordinates, scales = _inputs(5)
    more = (scales,) if is_scaled else ()
    found = SkeletalModelLayer(SKELETON, **names)(coordinates, *more)
    whole = LAYER(coordinates, *more)
    bodies = SKELETON.index_of("body", names["bodies"])
    expected = Pose(
        whole.joint_centers[:, SKELETON.index_of("joint", names["joints"])],
        whole.markers[:, SKELETON.index_of("marker", names["markers"])],
        whole.body_rotations[:, bodies],
        whole.body_positions[:, bodies],
    )
    assert _difference(found, expected) < EXACT


def test_nothing_selected_of_a_kind_gives_no_rows() -> None:
    layer = SkeletalModelLayer(SKELETON, bodies=[], joints=[], markers=["RTOE"])
    pose = layer(*_inputs(2))
    shapes = [tuple(part.shape) for part in pose]
    assert shapes == [(2, 0, 3), (2, 1, 3), (2, 0, 3, 3), (2, 0, 3)]


@pytest.mark.parametrize("bodies", [["pelvis"], []])
def test_rows_that_no_scale_moves(bodies: list[str]) -> None:
    """The pelvis is where its coordinates say, whatever its scale."""
    coordinates, scales = _inputs(2)
    layer = SkeletalModelLayer(SKELETON, bodies=bodies, joints=[], markers=[])
    index = SKELETON.index_of("body", bodies)
    for more in ((), (scales,)):
        found = layer(coordinates, *more)
        assert found.markers.shape == (2, 0, 3)
        assert torch.equal(found.body_positions, LAYER(coordinates).body_positions[:, index])


@pytest.mark.parametrize("kind", ["coordinates", "bodies", "joints", "markers"])
def test_an_unknown_name_is_refused(kind: str) -> None:
    with pytest.raises(UnknownNameError, match="'no_such_name'"):
        SkeletalModelLayer(SKELETON, **{kind: ["no_such_name"]})


def test_leg_markers_need_only_the_segments_of_the_legs() -> None:
    names = ("RKNE", "RANK", "RHEE", "RTOE", "LKNE", "LANK", "LHEE", "LTOE")
    legs = SkeletalModelLayer(SKELETON, bodies=[], joints=[], markers=names)
    # Ground, pelvis, and at each side thigh, shank, talus, calcaneus and toes.
    assert legs._rows.tree.count == 12
    assert LAYER._rows.tree.count > 3 * legs._rows.tree.count
    coordinates, scales = _inputs(3)
    index = SKELETON.index_of("marker", names)
    for more in ((), (scales,)):
        expected = LAYER(coordinates, *more).markers[:, index]
        assert (legs(coordinates, *more).markers - expected).abs().max() < EXACT


def test_scales_are_those_of_all_bodies_whatever_is_selected() -> None:
    legs = SkeletalModelLayer(SKELETON, bodies=["tibia_r"], joints=[], markers=["RANK"])
    assert legs.scaled_count == len(SKELETON.bodies)
    coordinates, scales = _inputs(2)
    scales.requires_grad_()
    (gradient,) = torch.autograd.grad(legs(coordinates, scales).markers.square().sum(), scales)
    moving = SKELETON.index_of("body", ["femur_r", "tibia_r"])
    still = SKELETON.index_of("body", ["femur_l", "humerus", "skull"])
    assert gradient.shape == scales.shape
    assert (gradient[:, moving].abs().amax(-1) > 0).all()
    assert (gradient[:, still] == 0).all()


def test_root_rotation_of_a_selection() -> None:
    coordinates, scales = _inputs(2)
    turned = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    legs = SkeletalModelLayer(SKELETON, bodies=[], joints=[], markers=["RANK"])
    expected = LAYER(coordinates, scales, turned).markers[:, [SKELETON.markers.index("RANK")]]
    assert (legs(coordinates, scales, turned).markers - expected).abs().max() < EXACT
