"""Recordings of BML-MoVi: the part of a subject's long video that shows one motion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from d3ke.camera import Camera, box_of_points, project
from d3ke.errors import InvalidInputError
from d3ke_platform.calibration import camera_for_video
from d3ke_platform.files import content_hash
from d3ke_platform.schema import BOXES
from d3ke_platform.stages.decode import probe

VIDEO_HZ, MOCAP_HZ = 30.0, 120.0
"""Video frame f of a motion shows motion capture sample 4 f."""
_RATE_TOLERANCE_HZ = 0.1
_LONGEST_DISAGREEMENT_S = 1.0
"""A motion and its part of the video that differ more in length are not the same motion."""


def describe_video(path: Path) -> dict[str, Any]:
    """Where a video is, its hash, rate, length and size; JSON values.

    Raises InvalidInputError when it cannot be opened or does not run at 30 frames a second.
    """
    info = probe(path)
    check_rate(path, info.fps)
    return {
        "uri": str(path),
        "content_hash": content_hash(path),
        "fps": info.fps,
        "frame_count": info.frame_count,
        "size": [info.width, info.height],
    }


def check_rate(path: str | Path, fps: float) -> None:
    """Refuse a video that does not run at 30 frames a second. Raises InvalidInputError."""
    if abs(fps - VIDEO_HZ) > _RATE_TOLERANCE_HZ:
        raise InvalidInputError(
            str(path),
            f"has {fps:g} frames per second; limits and motion capture count 30",
            "Take the video as published.",
        )


def check_sex(motion: str | Path, fitted: str, sex: str) -> None:
    """Refuse shape coefficients of the other sex's body model. Raises InvalidInputError."""
    if fitted and fitted != sex:
        reason = f"was fitted with the {fitted} body model, the Visual3D file says {sex}"
        raise InvalidInputError(str(motion), reason)


def check_length(motion: str | Path, samples: int, video_frames: int) -> None:
    """Refuse a motion that is not the one its part of the videos shows. Raises InvalidInputError.

    Args:
        motion: its file.
        samples: of motion capture.
        video_frames: of its part of the videos.
    """
    mocap_s, video_s = samples / MOCAP_HZ, video_frames / VIDEO_HZ
    if abs(mocap_s - video_s) > _LONGEST_DISAGREEMENT_S:
        reason = f"lasts {mocap_s:.1f} s, its part of the videos {video_s:.1f} s"
        raise InvalidInputError(str(motion), reason)


def recording_row(
    trial: Mapping[str, Any],
    name: str,
    camera: Camera,
    video: Mapping[str, Any],
    unit: Mapping[str, Any],
) -> dict[str, Any]:
    """Row of RECORDINGS of one motion.

    Args:
        trial: its row of TRIALS.
        name: of the camera.
        camera: ground -> camera, of the calibrated size.
        video: description of the whole video (`describe_video`).
        unit: with the motion's "first_frame" and "frame_count" in it.

    Raises:
        InvalidInputError: the video has another size or ends before the motion begins.
    """
    first = unit["first_frame"]
    count = min(unit["frame_count"], video["frame_count"] - first)
    if count < 1:
        reason = f"has {video['frame_count']} frames, the motion begins at frame {first}"
        raise InvalidInputError(str(video["uri"]), reason)
    width, height = video["size"]
    seen = camera_for_video(camera, (width, height), name)
    return {
        "recording_id": f"{trial['trial_id']}_{name}",
        **{key: trial[key] for key in ("trial_id", "subject", "movement", "split")},
        "camera": name,
        "uri": video["uri"],
        "content_hash": video["content_hash"],
        "first_frame": first,
        "start_s": 0.0,
        "fps": video["fps"],
        "frame_count": count,
        "width": width,
        "height": height,
        "intrinsics": seen.intrinsics,
        "rotation": seen.rotation,
        "translation": seen.translation,
        "distortion": seen.distortion,
        "calibrated": True,
    }


def mesh_boxes(camera: Camera, vertices: Float[np.ndarray, "T V 3"]) -> pa.Table:
    """BOXES table of a posed mesh (ground, m), a row per video frame."""
    boxes = np.stack([box_of_points(project(camera, frame)) for frame in vertices])
    return BOXES.to_arrow(
        {"frame": np.arange(len(boxes)), "box": boxes, "confidence": np.ones(len(boxes))}
    )
