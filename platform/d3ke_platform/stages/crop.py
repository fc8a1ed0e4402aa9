"""Stage: one recording -> its crops. Decoding, boxes and cropping happen in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from d3ke.arrays import ImageArray, IntArray
from d3ke.camera import Camera, crop_camera, warp
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.schema import BOXES, CROPS
from d3ke_platform.stages.decode import Frame, frames
from d3ke_platform.stages.detect import (
    Detector,
    DetectorChoice,
    KnownBoxes,
    Track,
    build_detector,
    complete_track,
)

JPEG_QUALITY = 92
DETECTION_SMOOTHING_S = 0.05
CROPS_TOGETHER = 256
"""Rows of a row group: what streaming training reads and holds in one piece."""


class CropRecording:
    """Cuts the person out of every frame with a perspective crop camera; writes CROPS."""

    name = "crop"

    def __init__(self, root: str, *, detector: tuple[str, str, str]) -> None:
        """Args: root of the data set; fields of the `DetectorChoice` where boxes are unknown."""
        self._data = DataSet.open(root)
        crop = self._data.crop
        self._size = int(crop["stored_size"])
        self._field_of_view = float(crop["field_of_view"]) * float(crop["margin"])
        self._choice = DetectorChoice(*detector)
        self._detector: Detector | None = None

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: a row of RECORDINGS with its trial's "rate_hz" and "label_count".

        Returns recording_id, frames, bytes and seconds. Raises InvalidInputError when the video
        is broken or nobody is found in it.
        """
        began = time.perf_counter()
        path = self._data.resolve(item["uri"])
        track, times = self._track(item, path)
        columns = self._crops(item, path, track)
        count = len(times)
        columns |= {key: [item[key]] * count for key in _COMMON}
        columns |= {"time_s": times, "box": track.boxes}
        columns["trial_frame"] = trial_frames(
            times + item["start_s"],
            fps=item["fps"],
            rate_hz=item["rate_hz"],
            count=item["label_count"],
        )
        table = CROPS.to_arrow(columns)
        storage.write_table(
            self._data.crop_uri(item["recording_id"]), table, group_rows=CROPS_TOGETHER
        )
        return [
            {
                "recording_id": item["recording_id"],
                "frames": count,
                "bytes": sum(map(len, columns["jpeg"])),
                "seconds": time.perf_counter() - began,
            }
        ]

    def _track(self, item: dict[str, Any], path: Path) -> tuple[Track, np.ndarray]:
        times: list[float] = []

        def noted() -> Any:
            for frame in _part(item, path):
                times.append(frame.time_s)
                yield frame

        detector = self._boxes_of(item["recording_id"])
        detections = detector.boxes(noted())
        smoothing_s = DETECTION_SMOOTHING_S if detector.smooth else 0.0
        track = complete_track(str(path), detections, np.array(times), smoothing_s=smoothing_s)
        return track, np.array(times)

    def _boxes_of(self, recording_id: str) -> Detector:
        uri = self._data.boxes_uri(recording_id)
        if storage.exists(uri):
            boxes = BOXES.to_numpy(storage.read_table(uri))
            return KnownBoxes(boxes["frame"], boxes["box"], boxes["confidence"])
        if self._detector is None:
            self._detector = build_detector(self._choice)
        return self._detector

    def _crops(self, item: dict[str, Any], path: Path, track: Track) -> dict[str, Any]:
        camera = camera_of(item)
        indices: list[int] = []
        pictures: list[bytes] = []
        views: list[Camera] = []
        for frame, box in zip(_part(item, path), track.boxes, strict=True):
            view = crop_camera(camera, box, size=self._size, margin=self._field_of_view)
            indices.append(frame.index)
            pictures.append(encode_jpeg(warp(frame.image, camera, view)))
            views.append(view)
        return {
            "frame": indices,
            "jpeg": pictures,
            "crop_intrinsics": np.stack([view.intrinsics for view in views]),
            "crop_rotation": np.stack([view.rotation for view in views]),
            "crop_translation": np.stack([view.translation for view in views]),
        }


def _part(item: dict[str, Any], path: Path) -> Iterator[Frame]:
    """Frames of a recording, index and time from its own start."""
    start_s: float | None = None
    for frame in frames(path, first=item["first_frame"], count=item["frame_count"]):
        start_s = frame.time_s if start_s is None else start_s
        index = frame.index - item["first_frame"]
        yield replace(frame, index=index, time_s=frame.time_s - start_s)


_COMMON = ("recording_id", "trial_id", "subject", "split")


def camera_of(recording: dict[str, Any]) -> Camera:
    """Camera of a row of RECORDINGS."""
    return Camera(
        intrinsics=np.asarray(recording["intrinsics"]),
        rotation=np.asarray(recording["rotation"]),
        translation=np.asarray(recording["translation"]),
        distortion=np.asarray(recording["distortion"]),
        size=(int(recording["width"]), int(recording["height"])),
    )


def trial_frames(times_s: np.ndarray, *, fps: float, rate_hz: float, count: int) -> IntArray:
    """Label row of each video frame, -1 where none is near enough in time.

    Args:
        times_s: [n] s, of the video frames, after the trial's first label.
        fps: Of the video.
        rate_hz: Of the labels.
        count: Number of labels.
    """
    nearest = np.rint(times_s * rate_hz).astype(np.int32)
    # Half a period of the faster one: no label is given to two frames, no frame an older label.
    near = np.abs(nearest / rate_hz - times_s) <= 0.5 / max(fps, rate_hz) + 1e-6
    return np.where(near & (nearest >= 0) & (nearest < count), nearest, -1).astype(np.int32)


def encode_jpeg(image: ImageArray) -> bytes:
    """JPEG of an RGB picture, uint8 [H,W,3]."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    succeeded, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not succeeded:
        raise ValueError(f"cannot encode a picture of shape {image.shape}")
    return bytes(encoded)
