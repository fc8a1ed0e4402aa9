"""Augmentation: labels and pictures change together, exactly."""

from __future__ import annotations

import pytest
import torch

from d3ke.augmentation import (
    AugmentationConfig,
    augment,
    center_crop,
    erase_rectangles,
    jitter_colors,
    sample_views,
    warp,
)
from d3ke.draws import Draws
from d3ke.errors import InvalidInputError
from d3ke.rotations import axis_angle_to_matrix

STORED, SIZE, MARGIN = 160, 128, 1.25
ONLY_VIEW = AugmentationConfig(
    brightness=0.0, contrast=0.0, saturation=0.0, hue_degrees=0.0, erase_probability=0.0
)
NOTHING = AugmentationConfig(
    shift=0.0, zoom=(1.0, 1.0), roll_degrees=0.0, brightness=0.0, contrast=0.0, saturation=0.0,
    hue_degrees=0.0, erase_probability=0.0,
)  # fmt: skip


def seeded(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def crop_cameras(count: int) -> torch.Tensor:
    middle = (STORED - 1) / 2
    one = torch.tensor([[300.0, 0, middle], [0, 300.0, middle], [0, 0, 1]])
    return one.expand(count, 3, 3).clone()


def project(intrinsics: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    pixels = points @ intrinsics.mT
    return pixels[..., :2] / pixels[..., 2:]


def draw_dots(centers: torch.Tensor) -> torch.Tensor:
    """One Gaussian dot per picture [B,3,STORED,STORED], sub-pixel centres [B,2] (x, y)."""
    axis = torch.arange(STORED, dtype=torch.float32)
    x = (axis[None, None, :] - centers[:, 0, None, None]) ** 2
    y = (axis[None, :, None] - centers[:, 1, None, None]) ** 2
    dot = torch.exp(-(x + y) / (2 * 2.0**2))
    return (255 * dot).round().to(torch.uint8)[:, None].expand(-1, 3, -1, -1)


def dot_centers(images: torch.Tensor) -> torch.Tensor:
    weight = images.mean(dim=1)
    axis = torch.arange(images.shape[-1], dtype=torch.float32)
    total = weight.sum(dim=(1, 2))
    x = (weight.sum(dim=1) @ axis) / total
    return torch.stack([x, (weight.sum(dim=2) @ axis) / total], dim=1)


@pytest.mark.parametrize("size", [SIZE, 96, 160])
def test_a_point_of_the_body_stays_on_its_dot(size: int) -> None:
    """A point fixed to the pelvis, seen through the new lens and the new root rotation."""
    count = 24
    torch.manual_seed(0)
    intrinsics = crop_cameras(count)
    rotation = axis_angle_to_matrix(
        torch.nn.functional.normalize(torch.randn(count, 3), dim=1), torch.rand(count) * 3
    )
    on_pelvis = torch.randn(count, 3) * 0.15
    pelvis = torch.tensor([0.0, 0.0, 4.0]) + torch.randn(count, 3) * 0.05
    point = (rotation @ on_pelvis[..., None])[..., 0] + pelvis
    images = draw_dots(project(intrinsics, point[:, None])[:, 0])

    augmented, turned = augment(images, intrinsics, rotation, size, seeded(), ONLY_VIEW, MARGIN)
    view = sample_views(intrinsics, STORED, size, seeded(), ONLY_VIEW, MARGIN)
    # The camera's centre stays, so only its axes act on the pelvis origin.
    origin = (view.rotation @ pelvis[..., None])[..., 0]
    expected = (turned @ on_pelvis[..., None])[..., 0] + origin
    landed = project(view.intrinsics, expected[:, None])[:, 0]

    inside = ((landed > 10) & (landed < size - 11)).all(dim=1)
    assert inside.sum() >= 15
    error = (dot_centers(augmented) - landed)[inside].norm(dim=1)
    assert error.max() < 0.2, error  # a drawn dot is symmetric only up to 0.1 px after warping
    assert (landed - (size - 1) / 2)[inside].norm(dim=1).max() > 5


def test_ranges_are_kept_and_used() -> None:
    count = 500
    intrinsics = crop_cameras(count)
    view = sample_views(intrinsics, STORED, SIZE, seeded(), AugmentationConfig(), MARGIN)
    zoom = view.intrinsics[:, 0, 0] / (300.0 * SIZE * MARGIN / STORED)
    assert 0.8 <= zoom.min() < 0.83
    assert 1.2 < zoom.max() <= 1.2501
    axis = torch.tensor([[0.0, 0.0, 1.0]])
    shift = project(view.intrinsics, (axis @ view.rotation.mT)) - (SIZE - 1) / 2
    assert 0.095 * SIZE < shift.norm(dim=-1).max() <= 0.1 * SIZE + 1e-3
    roll = torch.atan2(view.rotation[:, 1, 0], view.rotation[:, 0, 0]).rad2deg()
    assert 18 < roll.abs().max() < 22
    identity = view.rotation @ view.rotation.mT
    torch.testing.assert_close(identity, torch.eye(3).expand(count, 3, 3), atol=1e-5, rtol=0)


def test_without_changes_it_is_the_center_crop() -> None:
    images = torch.randint(0, 256, (3, 3, STORED, STORED), dtype=torch.uint8)
    rotation = torch.eye(3).expand(3, 3, 3)
    same, unturned = augment(images, crop_cameras(3), rotation, SIZE, seeded(), NOTHING, MARGIN)
    crop = center_crop(images, SIZE, MARGIN)
    assert crop.dtype == torch.uint8
    torch.testing.assert_close(crop, images[..., 16:144, 16:144])
    torch.testing.assert_close(same, crop / 255, atol=1e-3, rtol=0)
    torch.testing.assert_close(unturned, rotation)


def test_center_crop_to_another_scale_keeps_the_field_of_view() -> None:
    middle = (STORED - 1) / 2
    images = draw_dots(torch.tensor([[middle, middle], [middle + 32.0, middle]]))
    small = center_crop(images, 64, MARGIN)
    found = dot_centers(small)
    torch.testing.assert_close(found[0], torch.tensor([31.5, 31.5]), atol=0.05, rtol=0)
    torch.testing.assert_close(found[1], torch.tensor([47.5, 31.5]), atol=0.1, rtol=0)


def test_same_seed_same_result_other_seed_another() -> None:
    images = torch.randint(0, 256, (2, 3, STORED, STORED), dtype=torch.uint8)
    rotation, config = torch.eye(3).expand(2, 3, 3), AugmentationConfig()

    def run(seed: int) -> torch.Tensor:
        return augment(images, crop_cameras(2), rotation, SIZE, seeded(seed), config)[0]

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_colours_change_within_bounds_and_gray_stays_gray() -> None:
    images = torch.rand(8, 3, 16, 16)
    changed = jitter_colors(images, seeded(), AugmentationConfig())
    assert (changed - images).abs().mean(dim=(1, 2, 3)).min() > 0.01
    assert changed.min() >= 0
    assert changed.max() <= 1
    gray = torch.rand(8, 1, 16, 16).expand(-1, 3, -1, -1)
    result = jitter_colors(gray, seeded(), AugmentationConfig())
    torch.testing.assert_close(result, result.mean(1, True).expand_as(result), atol=1e-5, rtol=0)
    torch.testing.assert_close(jitter_colors(images, seeded(), NOTHING), images)


def test_erased_area_and_probability() -> None:
    images = torch.full((400, 3, 32, 32), 2.0)
    config = AugmentationConfig(erase_probability=0.5, erase_area=0.25)
    erased = (erase_rectangles(images, seeded(), config) != 2.0)[:, 0].float().mean(dim=(1, 2))
    assert 0.40 < (erased > 0).float().mean() < 0.55
    assert 0.15 < erased.max() <= 0.29
    assert (erase_rectangles(images, seeded(), NOTHING) == images).all()


def test_warp_of_the_same_camera_is_the_identity() -> None:
    images = torch.rand(2, 3, 48, 48)
    intrinsics = crop_cameras(2)
    from d3ke.augmentation import View

    same = warp(images, intrinsics, View(torch.eye(3).expand(2, 3, 3), intrinsics), 48)
    torch.testing.assert_close(same, images, atol=1e-3, rtol=0)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="zoom"):
        AugmentationConfig(zoom=(1.2, 0.8))
    with pytest.raises(InvalidInputError, match="erase"):
        AugmentationConfig(erase_probability=2.0)
