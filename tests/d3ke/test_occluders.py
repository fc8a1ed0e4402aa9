"""Objects pasted over training pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from d3ke.augmentation import AugmentationConfig, augment
from d3ke.draws import Draws
from d3ke.errors import InvalidInputError
from d3ke.occluders import CUT_OUT_SIZE, OccluderBank

GREY = 0.25


def cut_out(path: Path, *, color=(255, 0, 0), size=(60, 30), border: int = 20) -> None:
    """A rectangle [width, height] of an RGB colour in a transparent picture."""
    width, height = size
    image = np.zeros((height + 2 * border, width + 2 * border, 4), np.uint8)
    image[border : border + height, border : border + width] = (*color[::-1], 255)
    cv2.imwrite(str(path), image)


@pytest.fixture
def bank(tmp_path: Path) -> OccluderBank:
    cut_out(tmp_path / "red.png")
    (tmp_path / "deeper").mkdir()
    cut_out(tmp_path / "deeper" / "green.PNG", color=(0, 255, 0), size=(10, 40))
    return OccluderBank(tmp_path)


def pasted(bank: OccluderBank, count: int = 64, **changes) -> torch.Tensor:
    options = {"probability": 1.0, "most": 1, "size": (0.3, 0.3)} | changes
    images = torch.full((count, 3, 80, 80), GREY)
    return bank.paste(images, Draws(torch.Generator().manual_seed(3)), **options)


def test_objects_are_cut_to_their_outline(bank: OccluderBank) -> None:
    assert len(bank) == 2
    red = bank.cut_outs[1]
    opaque = red[3] > 0.5
    assert int(opaque.sum()) == pytest.approx(CUT_OUT_SIZE**2 / 2, rel=0.02)
    assert red[0][opaque].min() == 1.0
    assert red[1:3].max() == 0.0


def test_objects_have_the_asked_size_and_lie_anywhere(bank: OccluderBank) -> None:
    images = pasted(bank)
    red = (images[:, 0] > 0.9) & (images[:, 1] < 0.1)
    green = (images[:, 1] > 0.9) & (images[:, 0] < 0.1)
    for seen, share in ((red, 0.5), (green, 0.25)):
        areas = seen.flatten(1).sum(1)
        whole = areas[areas > 0].max()
        assert int(whole) == pytest.approx(share * (0.3 * 80) ** 2, rel=0.1)
    covered = (images != GREY).any(1).float().mean(0)
    assert covered.min() < covered.mean() < 0.2
    assert (covered > 0).float().mean() > 0.8


def test_probability_and_number(bank: OccluderBank) -> None:
    assert torch.equal(pasted(bank, probability=0.0), torch.full((64, 3, 80, 80), GREY))
    touched = (pasted(bank, 400, probability=0.5) != GREY).flatten(1).any(1).float().mean()
    assert 0.4 < float(touched) < 0.6
    one = (pasted(bank, most=1) != GREY).float().mean()
    many = (pasted(bank, most=7) != GREY).float().mean()
    assert many > 2 * one


def test_augmentation_pastes_them(bank: OccluderBank) -> None:
    quiet = AugmentationConfig(
        shift=0.0, zoom=(1.0, 1.0), roll_degrees=0.0, brightness=0.0, contrast=0.0, saturation=0.0,
        hue_degrees=0.0, erase_probability=0.0, occluder_probability=1.0,
    )  # fmt: skip
    images = torch.full((2, 3, 80, 80), 64, dtype=torch.uint8)
    intrinsics = torch.tensor([[100.0, 0, 39.5], [0, 100.0, 39.5], [0, 0, 1]]).expand(2, 3, 3)
    turns = torch.eye(3).expand(2, 3, 3)

    def seen(occluders: OccluderBank | None) -> torch.Tensor:
        draws = Draws(torch.Generator().manual_seed(0))
        return augment(images, intrinsics, turns, 64, draws, quiet, 1.25, occluders)[0]

    torch.testing.assert_close(seen(None), torch.full((2, 3, 64, 64), 64 / 255))
    assert (seen(bank)[:, 0] > 0.9).any() or (seen(bank)[:, 1] > 0.9).any()


def test_folders_that_hold_no_cut_outs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no picture"):
        OccluderBank(tmp_path)
    cv2.imwrite(str(tmp_path / "plain.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InvalidInputError, match=r"plain\.png.*alpha"):
        OccluderBank(tmp_path)
    cv2.imwrite(str(tmp_path / "plain.png"), np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(InvalidInputError, match="transparent everywhere"):
        OccluderBank(tmp_path)
    (tmp_path / "plain.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInputError, match=r"plain\.png"):
        OccluderBank(tmp_path)


@pytest.mark.parametrize(
    "change", [{"occluder_probability": 1.5}, {"occluder_count": 0}, {"occluder_size": (0.5, 0.1)}]
)
def test_settings_are_checked(change: dict) -> None:
    with pytest.raises(InvalidInputError, match="occluder"):
        AugmentationConfig(**change)
