"""Crops of held-out recordings with the labelled and the estimated skeleton drawn over them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from d3ke.arrays import FloatArray, ImageArray
from d3ke_platform.data_set import DataSet
from d3ke_platform.evaluation.comparison import RecordingComparison
from d3ke_platform.evaluation.plotting import COLORS, Picture, data_uri
from d3ke_platform.schema import CROPS
from d3ke_platform.storage import read_table

_CHAINS = (
    ("hip_r", "knee_r", "ankle_r", "mtp_r"),
    ("hip_l", "knee_l", "ankle_l", "mtp_l"),
    ("hip_r", "ground_pelvis", "hip_l"),
    ("ground_pelvis", "L5_S1_IVDjnt", "T12_L1_IVDjnt", "T8_T9_IVDjnt", "T1_T2_IVDjnt", "C7_skull"),
    ("shoulder2", "T1_T2_IVDjnt", "shoulder2_l"),
    ("shoulder2", "elbow", "radiocarpal"),
    ("shoulder2_l", "elbow_l", "radiocarpal_l"),
)
"""Joints joined by lines; the model's other joints lie too close together to be seen."""
_TILE = 240
_COLUMNS = 4
_GAP = 6
_STRIP = 20
_INK = (32, 36, 42)


def example_crops(
    data: DataSet, comparisons: Sequence[RecordingComparison], joints: Sequence[str], count: int
) -> Picture | None:
    """`count` crops, spread over recordings and time, with label and best estimate."""
    if not count:
        return None
    # A step that shares no factor with the number of recordings visits all movements and cameras.
    step = max(1, round(len(comparisons) * 0.618))
    while np.gcd(step, len(comparisons)) != 1:
        step += 1
    tiles = []
    for number in range(min(count, 4 * len(comparisons))):
        item = comparisons[number * step % len(comparisons)]
        row = (2 * number + 1) * len(item.truth.frame) // (2 * count)
        tiles.append(_tile(data, item, joints, row))
    return Picture(
        title="Crops with skeletons",
        caption="Dark: label (OpenSim). Blue: estimate of the last network. Both are drawn at the "
        "labelled pelvis position, so a shift of a limb is an error of pose or size.",
        data_uri=data_uri(_png(mosaic(tiles, columns=_COLUMNS)), "png"),
    )


def _tile(data: DataSet, item: RecordingComparison, joints: Sequence[str], row: int) -> ImageArray:
    image = crop_image(data, item.recording["recording_id"], int(item.truth.frame[row]))
    scale = _TILE / image.shape[0]
    image = cv2.resize(image, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    method = "sequence" if "sequence" in item.estimates else "per_frame"
    pelvis = item.truth.root_position[row]
    skeletons = (
        ("label", item.truth.joint_centers[row]),
        (method, item.estimates[method].joint_centers[row] + pelvis),
    )
    for name, centers in skeletons:
        # Pixel centres are at integers, so pixel -0.5 is the image's edge at any size.
        pixels = (project_to_crop(item, row, centers) + 0.5) * scale - 0.5
        draw_skeleton(image, dict(zip(joints, pixels, strict=True)), COLORS[name])
    text = f"{item.recording['movement']}, {item.recording['camera']}"
    strip = image[-_STRIP:]
    strip[:] = 255 - (255 - strip) // 4
    place = (6, _TILE - 6)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    return image


def crop_image(data: DataSet, recording_id: str, frame: int) -> ImageArray:
    """Stored crop [H,H,3] RGB of a frame."""
    table = read_table(data.crop_uri(recording_id), ["frame", "jpeg"])
    columns = CROPS.to_numpy(table, ["frame", "jpeg"])
    jpeg = columns["jpeg"][int(np.flatnonzero(columns["frame"] == frame)[0])]
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1), cv2.COLOR_BGR2RGB)


def project_to_crop(item: RecordingComparison, row: int, points: FloatArray) -> FloatArray:
    """Pixels [K,2] in the stored crop of points [K,3] in ground [m]."""
    camera = points @ item.crop_rotation[row].T + item.crop_translation[row]
    pixels = camera @ item.crop_intrinsics[row].T
    return pixels[:, :2] / pixels[:, 2:]


def draw_skeleton(image: ImageArray, pixels: dict[str, FloatArray], color: str) -> None:
    """Draw lines between the joints that are in `pixels` [2] onto an RGB image, in place."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    for chain in _CHAINS:
        points = [pixels[name] for name in chain if name in pixels]
        if len(points) > 1 and np.isfinite(points).all():
            # OpenCV takes fixed-point pixels: 4 fractional bits keep the lines smooth.
            fixed = np.round(np.clip(points, -4096, 4096) * 16).astype(np.int32)
            cv2.polylines(image, [fixed], False, (red, green, blue), 2, cv2.LINE_AA, 4)


def mosaic(tiles: Sequence[ImageArray], *, columns: int) -> ImageArray:
    """Tiles of one size side by side in rows, white in between."""
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    height, width = tiles[0].shape[:2]
    canvas = np.full(
        (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8
    )
    for number, tile in enumerate(tiles):
        y, x = (number // columns) * (height + _GAP), (number % columns) * (width + _GAP)
        canvas[y : y + height, x : x + width] = tile
    return canvas


def _png(image: ImageArray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
