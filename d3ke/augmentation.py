"""Training-time changes of crops: a new view as one homography, colours, erased rectangles.

Everything works on whole batches on the device of the images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from d3ke.draws import Draws
from d3ke.errors import InvalidInputError
from d3ke.occluders import OccluderBank
from d3ke.rotations import axis_angle_to_matrix

LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How much crops change during training; the defaults follow the paper's code.

    The paper also pastes Pascal VOC objects over people; here a folder of cut-outs does that, and
    without one erased rectangles stand in. All-zero ranges and probabilities leave crops alone.
    """

    shift: float = 0.1
    """Radius of the disc that the person's centre moves in, in parts of the crop's side."""
    zoom: tuple[float, float] = (0.8, 1.25)
    """Range of the zoom (the paper: 0.75 .. 1.25; below 1 / margin the crop has black edges)."""
    roll_degrees: float = 20.0
    """Largest rotation about the optical axis, either way."""
    brightness: float = 0.125
    """Largest change of brightness, in parts of the full scale."""
    contrast: float = 0.5
    """Contrast is multiplied by 1 +- this."""
    saturation: float = 0.5
    """Saturation is multiplied by 1 +- this."""
    hue_degrees: float = 72.0
    """Largest rotation of the hue, either way."""
    erase_probability: float = 0.5
    """Probability that a rectangle of the crop is replaced by noise."""
    erase_area: float = 0.27
    """Largest erased part of the image."""
    occluders: str = ""
    """Folder of pictures with an alpha channel, pasted over people; "" = none."""
    occluder_probability: float = 0.35
    """Probability that objects are pasted, where there is a folder of them."""
    occluder_count: int = 7
    """Most objects in a picture."""
    occluder_size: tuple[float, float] = (0.1, 0.5)
    """Range of an object's longer side, in parts of the picture's."""
    mirror_probability: float = 0.0
    """Probability that left and right are exchanged (the paper: never; see d3ke.mirroring)."""

    def __post_init__(self) -> None:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise InvalidInputError(f"zoom {self.zoom}", "not a rising pair of positive numbers")
        if not (0 <= self.erase_probability <= 1 and 0 <= self.erase_area < 1):
            raise InvalidInputError("erase_probability and erase_area", "not within 0 .. 1")
        if not (0 <= self.mirror_probability <= 1 and 0 <= self.occluder_probability <= 1):
            raise InvalidInputError(
                "mirror_probability and occluder_probability", "not within 0 .. 1"
            )
        if self.occluder_count < 1 or not 0 < self.occluder_size[0] <= self.occluder_size[1]:
            reason = f"{self.occluder_count} objects of size {self.occluder_size}"
            raise InvalidInputError("occluders", f"{reason}: one or more of a rising size above 0")
        if not (0 <= self.contrast <= 1 and 0 <= self.saturation <= 1):
            raise InvalidInputError("contrast and saturation", "not within 0 .. 1")


class View(NamedTuple):
    """A camera at the same place as the stored crop's, turned and with another lens."""

    rotation: Tensor
    """[B,3,3] axes of the stored crop's camera to the new camera's."""
    intrinsics: Tensor
    """[B,3,3] px of the new crop."""


def augment(
    images: UInt8[Tensor, "B 3 H H"],
    intrinsics: Shaped[Tensor, "B 3 3"],
    root_rotation: Shaped[Tensor, "B 3 3"],
    size: int,
    draws: Draws,
    config: AugmentationConfig,
    margin: float = 1.25,
    occluders: OccluderBank | None = None,
) -> tuple[Float[Tensor, "B 3 size size"], Shaped[Tensor, "B 3 3"]]:
    """Random views of stored crops, with their labels.

    Args:
        images: stored crops, RGB.
        intrinsics: their cameras, px.
        root_rotation: pelvis axes to the axes of the stored crop's camera.
        size: side of the result in pixels.
        draws: source of the random numbers; on the device of the images if that is a GPU.
        config: how much changes.
        margin: side of the stored field of view over the side of the network's.
        occluders: the cut-outs of `config.occluders`, loaded.

    Returns:
        Images 0 .. 1 and the root rotation in the axes of the new camera. Nothing else of the
        labels depends on the camera: the network's positions follow from these.
    """
    view = sample_views(intrinsics, images.shape[-1], size, draws, config, margin)
    warped = warp(images, intrinsics, view, size)
    if occluders is not None:
        warped = occluders.paste(
            warped,
            draws,
            probability=config.occluder_probability,
            most=config.occluder_count,
            size=config.occluder_size,
        )
    coloured = jitter_colors(warped, draws, config)
    erased = erase_rectangles(coloured, draws, config)
    return erased, view.rotation.to(root_rotation.dtype) @ root_rotation


def center_crop(
    images: Shaped[Tensor, "B 3 H H"], size: int, margin: float = 1.25
) -> Shaped[Tensor, "B 3 size size"]:
    """The network's field of view out of stored crops, unchanged: for validation and scoring.

    The camera's axes stay, so labels and estimates need no change. Where one stored pixel is
    one pixel of the result the pixels are copied, of whatever type; else the images come back
    as floats 0 .. 1.
    """
    stored = images.shape[-1]
    offset = (stored - size) // 2
    if (stored - size) % 2 == 0 and abs(stored / margin - size) < 0.5:
        return images[..., offset : offset + size, offset : offset + size]
    # Any intrinsics will do: the same lens is divided out again.
    identity = torch.eye(3, device=images.device).expand(len(images), 3, 3)
    return warp(images, identity, View(identity, _lens(identity, stored, size, margin)), size)


def sample_views(
    intrinsics: Shaped[Tensor, "B 3 3"],
    stored: int,
    size: int,
    draws: Draws,
    config: AugmentationConfig,
    margin: float = 1.25,
) -> View:
    """Draw a camera per image: pan and tilt (shift), roll and focal length (zoom)."""
    count, device = len(intrinsics), intrinsics.device
    lens = _lens(intrinsics.double(), stored, size, margin)
    zoom = _uniform(count, math.log(config.zoom[0]), math.log(config.zoom[1]), draws, device)
    lens[:, :2, :2] *= zoom.exp()[:, None, None]
    radius = config.shift * size * _uniform(count, 0.0, 1.0, draws, device).sqrt()
    direction = _uniform(count, 0.0, 2 * math.pi, draws, device)
    middle = torch.full((count,), (size - 1) / 2, device=device, dtype=torch.float64)
    wanted = torch.stack(
        [
            middle + radius * direction.cos(),
            middle + radius * direction.sin(),
            torch.ones_like(middle),
        ]
    )
    roll = math.radians(config.roll_degrees)
    rolled = _turn((0.0, 0.0, 1.0), _uniform(count, -roll, roll, draws, device))
    ray = F.normalize(torch.linalg.solve(lens, wanted.T[..., None])[..., 0], dim=-1)
    return View((_rotation_from_axis_to(ray) @ rolled).float(), lens.float())


def warp(
    images: Shaped[Tensor, "B 3 H H"], intrinsics: Shaped[Tensor, "B 3 3"], view: View, size: int
) -> Float[Tensor, "B 3 size size"]:
    """What the cameras of `view` see of the images: a homography each, bilinear, black outside."""
    rays = view.intrinsics.double() @ view.rotation.double()
    homography = intrinsics.double() @ torch.linalg.inv(rays)
    axis = torch.arange(size, device=images.device, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    source = homography.float() @ pixels
    source = source[:, :2] / source[:, 2:].clamp(min=1e-6)
    # grid_sample's -1 .. 1 are the centres of the first and last pixel.
    grid = (2 * source / (images.shape[-1] - 1) - 1).transpose(1, 2).view(-1, size, size, 2)
    scaled = images.float() / 255 if images.dtype == torch.uint8 else images
    return F.grid_sample(scaled, grid.to(scaled.dtype), padding_mode="zeros", align_corners=True)


def jitter_colors(
    images: Float[Tensor, "B 3 H W"], draws: Draws, config: AugmentationConfig
) -> Float[Tensor, "B 3 H W"]:
    """Change hue, saturation, contrast and brightness: one affine map of colours per image."""
    count, device = len(images), images.device

    def factor(amount: float) -> Tensor:
        return _uniform(count, 1 - amount, 1 + amount, draws, device).float()[:, None, None]

    hue = math.radians(config.hue_degrees)
    gray = torch.tensor(LUMINANCE, device=device).expand(3, 3)
    # Rotating about the gray axis turns hues and leaves gray gray.
    matrix = _turn((3**-0.5,) * 3, _uniform(count, -hue, hue, draws, device)).float()
    matrix = gray + factor(config.saturation) * (matrix - gray)
    contrast = factor(config.contrast)
    brightness = factor(config.brightness) - 1
    mean = (images.mean(dim=(2, 3)) @ gray[0])[:, None, None]
    changed = (contrast * matrix) @ images.flatten(2) + (1 - contrast) * mean + brightness
    return changed.clamp(0, 1).view_as(images)


def erase_rectangles(
    images: Float[Tensor, "B 3 H W"], draws: Draws, config: AugmentationConfig
) -> Float[Tensor, "B 3 H W"]:
    """Fill a random rectangle of some images with noise, as if something stood in the way."""
    if config.erase_probability == 0 or config.erase_area == 0:
        return images
    count, device, size = len(images), images.device, images.shape[-1]

    def uniform(low: float, high: float) -> Tensor:
        return _uniform(count, low, high, draws, device)[:, None]

    area = uniform(0.0, config.erase_area) * (uniform(0.0, 1.0) < config.erase_probability)
    aspect = uniform(math.log(0.3), -math.log(0.3)).exp()
    width = (area * aspect).sqrt().clamp(max=1) * size
    height = (area / aspect).sqrt().clamp(max=1) * size
    left, top = uniform(0.0, 1.0) * (size - width), uniform(0.0, 1.0) * (size - height)
    axis = torch.arange(size, device=device) + 0.5
    columns = (axis >= left) & (axis < left + width)
    rows = (axis >= top) & (axis < top + height)
    noise = _noise(images, draws)
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], noise, images)


def _lens(intrinsics: Tensor, stored: int, size: int, margin: float) -> Tensor:
    """Intrinsics [B,3,3] of the central field of view 1/margin, drawn with `size` pixels."""
    scale = size * margin / stored
    lens = intrinsics.clone()
    lens[:, :2, :2] *= scale
    lens[:, :2, 2] = (intrinsics[:, :2, 2] - (stored - 1) / 2) * scale + (size - 1) / 2
    return lens


def _rotation_from_axis_to(ray: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 3"]:
    """Smallest rotation [B,3,3] that turns the optical axis (0,0,1) onto unit rays."""
    x, y, cosine = ray.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, zero, x, zero, zero, y, -x, -y, zero], dim=-1).view(-1, 3, 3)
    identity = torch.eye(3, dtype=ray.dtype, device=ray.device)
    return identity + cross + cross @ cross / (1 + cosine)[:, None, None]


def _turn(axis: tuple[float, float, float], angle: Float[Tensor, "B"]) -> Float[Tensor, "B 3 3"]:
    direction = torch.tensor(axis, dtype=angle.dtype, device=angle.device)
    return axis_angle_to_matrix(direction.expand(len(angle), 3), angle)


def _noise(images: Float[Tensor, "B 3 H W"], draws: Draws) -> Float[Tensor, "B 3 H W"]:
    """A window of one larger field of noise for every image, at a place of its own: numbers for
    every pixel of a large batch would cost more than all else here."""
    size, device = images.shape[-1], images.device
    field = draws.shared(3, 2 * size, 2 * size, device=device).to(images.dtype)
    top, left = ((draws.uniform(len(images), device) * size).long() for _ in range(2))
    windows = field.unfold(1, size, 1).unfold(2, size, 1)
    return windows[:, top, left].transpose(0, 1)


def _uniform(
    count: int, low: float, high: float, draws: Draws, device: torch.device
) -> Float[Tensor, "B"]:
    """Uniform numbers, float64: the views are exact and take no time."""
    return low + (high - low) * draws.uniform(count, device, torch.float64)
