"""Objects pasted over people in training pictures, from any folder of cut-outs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d3ke.draws import Draws
from d3ke.errors import InvalidInputError

CUT_OUT_SIZE = 128
"""Side of a stored cut-out, px: as large as an object gets in a network's input of 256 px."""
SUFFIXES = (".png", ".webp", ".tif", ".tiff")
"""File types with an alpha channel."""


class OccluderBank(nn.Module):
    """Cut-outs as one table; a module, so that it follows the device.

    The published recipe pastes segmented Pascal VOC objects, a data set of its own. Here a
    folder of pictures with an alpha channel says what stands in the way.
    """

    cut_outs: Tensor
    """[K,4,128,128] RGBA 0 .. 1; colours are multiplied by alpha, objects fill one side."""

    def __init__(self, folder: str | Path) -> None:
        """Raises InvalidInputError: no folder, no cut-out in it, or one without alpha channel."""
        super().__init__()
        files = sorted(f for f in Path(folder).rglob("*") if f.suffix.lower() in SUFFIXES)
        if not files:
            raise InvalidInputError(
                f"occluders {str(folder)!r}",
                f"holds no picture ({', '.join(SUFFIXES)})",
                "Give a folder of pictures with an alpha channel, or leave the setting empty.",
            )
        table = np.stack([_cut_out(file) for file in files])
        self.register_buffer("cut_outs", torch.from_numpy(table), persistent=False)

    def paste(
        self,
        images: Float[Tensor, "B 3 H W"],
        draws: Draws,
        *,
        probability: float,
        most: int,
        size: tuple[float, float],
    ) -> Float[Tensor, "B 3 H W"]:
        """Pastes 1 to `most` objects on some images, at random places, turned at random.

        Args:
            images: RGB 0 .. 1.
            draws: source of the random numbers.
            probability: of an image to get any.
            most: largest number of objects in an image.
            size: range of an object's longer side, in parts of the image's side.
        """
        count, device = len(images), images.device

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * draws.uniform(count, device)

        number = (uniform(0.0, 1.0) < probability) * (1 + uniform(0.0, float(most)).long())
        for index in range(most):
            chosen = (uniform(0.0, 1.0) * len(self.cut_outs)).long().clamp(max=len(self) - 1)
            angle, half = uniform(-np.pi, np.pi), uniform(*size)
            x, y = uniform(-1.0, 1.0), uniform(-1.0, 1.0)
            cosine, sine = angle.cos() / half, angle.sin() / half
            # From the image's -1 .. 1 to the cut-out's: shift, turn, enlarge.
            rows = [
                torch.stack([cosine, sine, -cosine * x - sine * y], -1),
                torch.stack([-sine, cosine, sine * x - cosine * y], -1),
            ]
            grid = F.affine_grid(
                torch.stack(rows, 1).to(images.dtype), list(images.shape), align_corners=False
            )
            cut_outs = self.cut_outs[chosen].to(images.dtype)
            pasted = F.grid_sample(cut_outs, grid, padding_mode="zeros", align_corners=False)
            pasted = pasted * (index < number)[:, None, None, None]
            images = images * (1 - pasted[:, 3:]) + pasted[:, :3]
        return images

    def __len__(self) -> int:
        return len(self.cut_outs)


def _cut_out(file: Path) -> np.ndarray:
    """[4,128,128] float32: the object alone, its longer side as wide as the table."""
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        raise InvalidInputError(
            f"occluder {str(file)!r}",
            "is not a picture with an alpha channel",
            "Remove it, or save it as RGBA.",
        )
    scale = np.float32(1 / np.iinfo(image.dtype).max)
    color = image.astype(np.float32)[:, :, [2, 1, 0, 3]] * scale
    rows, columns = np.nonzero(color[:, :, 3] > 0.0)
    if not len(rows):
        raise InvalidInputError(f"occluder {str(file)!r}", "is transparent everywhere")
    color = color[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    color[:, :, :3] *= color[:, :, 3:]
    height, width = color.shape[:2]
    factor = CUT_OUT_SIZE / max(height, width)
    target = (max(1, round(width * factor)), max(1, round(height * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(color, target, interpolation=method).reshape(target[1], target[0], 4)
    table = np.zeros((CUT_OUT_SIZE, CUT_OUT_SIZE, 4), np.float32)
    top, left = (CUT_OUT_SIZE - target[1]) // 2, (CUT_OUT_SIZE - target[0]) // 2
    table[top : top + target[1], left : left + target[0]] = resized
    return table.transpose(2, 0, 1)
