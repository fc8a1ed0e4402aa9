"""Stage: one video -> its per-frame estimates. Full frames never leave the process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.fs as pafs

from d3ke.arrays import FloatArray
from d3ke.camera import Camera, crop_camera, warp
from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.calibration import camera_for_video, camera_from_json, camera_to_json
from d3ke_platform.files import filesystem
from d3ke_platform.schema import BOXES
from d3ke_platform.stages.decode import Frame, VideoInfo, frames, probe
from d3ke_platform.stages.detect import (
    Detector,
    DetectorChoice,
    KnownBoxes,
    Track,
    build_detector,
    complete_track,
)
from d3ke_platform.stages.estimate import (
    EstimateArrays,
    FrameEstimator,
    bundle_dims,
    estimates_table,
)
from d3ke_platform.stages.scores_folder import (
    ScoredVideo,
    clear_recording,
    estimates_uri,
    read_scored,
    scored_uri,
)


class ScoreVideo:
    """Decode, detect, crop and estimate in one process; batches of crops go to the device."""

    name = "estimate"

    def __init__(
        self,
        bundle_folder: str,
        *,
        output: str,
        detector: tuple[str, str, str],
        device: str = "auto",
        batch_size: int = 64,
        field_of_view_deg: float = 55.0,
        frame_rate: float = 0.0,
        smoothing_s: float = 0.05,
    ) -> None:
        """Load networks and detector.

        Args:
            bundle_folder: The model bundle.
            output: SCORES folder or URI.
            detector: Fields of `DetectorChoice`.
            device: Of the network.
            batch_size: Crops per forward pass.
            field_of_view_deg: Of the camera assumed where none is known, longer side.
            frame_rate: Frames per second of every video; 0 takes each video's own.
            smoothing_s: Smoothing of detected boxes over time, s.
        """
        self._estimator = FrameEstimator(bundle_folder, device=device, batch_size=batch_size)
        self._detector = build_detector(DetectorChoice(*detector), device=device)
        self._output, self._smoothing_s = output, smoothing_s
        self._field_of_view_deg, self._frame_rate = field_of_view_deg, frame_rate

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: uri, camera (JSON values or None), optionally recording_id and boxes_uri.

        Returns one ledger row: fields of `ScoredVideo` and "skipped", true where the estimates
        were there already.
        """
        with local_copy(item["uri"]) as path:
            content_hash = storage.content_hash(path)
            stem = PurePosixPath(item["uri"]).stem
            recording_id = item.get("recording_id") or f"{stem}-{content_hash[:8]}"
            done = read_scored(self._output, recording_id)
            if done is not None and done.content_hash == content_hash:
                return [{**asdict(done), "skipped": True}]
            clear_recording(self._output, recording_id)
            scored = self._score(path, item, recording_id, content_hash)
        return [{**asdict(scored), "skipped": False}]

    def _score(
        self, path: Path, item: dict[str, Any], recording_id: str, content_hash: str
    ) -> ScoredVideo:
        clock = _Clock()
        info = probe(path)
        camera = self._camera(item, info)
        detector = self._detector
        if item.get("boxes_uri"):
            boxes = BOXES.to_numpy(storage.read_table(item["boxes_uri"]))
            detector = KnownBoxes(boxes["frame"], boxes["box"], boxes["confidence"])
        track, indices, times = self._track(path, detector, clock, item["uri"])
        estimate, crops = self._estimate(path, camera, track, clock)
        columns = {"frame": indices, "time_s": times, "box": track.boxes, **crops}
        columns["confidence"] = track.confidence
        dims = bundle_dims(self._estimator.bundle)
        table = estimates_table(recording_id, estimate, columns, dims)
        scored = ScoredVideo(
            recording_id=recording_id,
            uri=item["uri"],
            content_hash=content_hash,
            fps=self._frame_rate or info.fps,
            frames=len(indices),
            detected=track.detected,
            width=info.width,
            height=info.height,
            camera=camera_to_json(camera),
            calibrated=item.get("camera") is not None,
            detector=detector.name,
            seconds=clock.seconds,
        )
        # The description first: whoever finds the table finds the description as well.
        storage.write_json(scored_uri(self._output, recording_id), asdict(scored))
        storage.write_table(estimates_uri(self._output, recording_id), table)
        return scored

    def _camera(self, item: dict[str, Any], info: VideoInfo) -> Camera:
        size = (info.width, info.height)
        if item.get("camera") is None:
            return Camera.assumed(size, self._field_of_view_deg)
        return camera_for_video(camera_from_json(item["camera"]), size, item["uri"])

    def _track(
        self, path: Path, detector: Detector, clock: _Clock, what: str
    ) -> tuple[Track, np.ndarray, FloatArray]:
        """Boxes of all frames, frame indices and times."""
        indices: list[int] = []
        times: list[float] = []

        def noted() -> Iterator[Frame]:
            for frame in clock.timed("decode", frames(path)):
                indices.append(frame.index)
                times.append(frame.time_s)
                yield frame

        decoded_before = clock.seconds.get("decode", 0.0)
        with clock.measure("detect"):
            detections = detector.boxes(noted())
        clock.seconds["detect"] -= clock.seconds.get("decode", 0.0) - decoded_before
        smoothing_s = self._smoothing_s if detector.smooth else 0.0
        track = complete_track(what, detections, np.array(times), smoothing_s=smoothing_s)
        return track, np.array(indices, np.int32), np.array(times)

    def _estimate(
        self, path: Path, camera: Camera, track: Track, clock: _Clock
    ) -> tuple[EstimateArrays, dict[str, np.ndarray]]:
        """Estimates of all frames, and the cameras of their crops."""
        estimates: list[EstimateArrays] = []
        cameras: list[Camera] = []
        remaining = zip(clock.timed("decode", frames(path)), track.boxes, strict=True)
        size = self._estimator.crop.stored_size
        margin = self._estimator.crop.stored_field_of_view
        while True:
            crops, views = [], []
            for frame, box in islice(remaining, self._estimator.batch_size):
                with clock.measure("crop"):
                    views.append(crop_camera(camera, box, size=size, margin=margin))
                    crops.append(warp(frame.image, camera, views[-1]))
            if not crops:
                break
            with clock.measure("network"):
                intrinsics = np.stack([view.intrinsics for view in views])
                estimates.append(self._estimator.estimate(np.stack(crops), intrinsics))
            cameras += views
        joined = EstimateArrays(*(np.concatenate(v) for v in zip(*estimates, strict=True)))
        return joined, {
            "crop_intrinsics": np.stack([view.intrinsics for view in cameras]),
            "crop_rotation": np.stack([view.rotation for view in cameras]),
            "crop_translation": np.stack([view.translation for view in cameras]),
        }


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local file with the content of a uri, deleted afterwards if it had to be copied."""
    if not storage.is_uri(uri):
        path = storage.local_path(uri)
        if not path.is_file():
            raise InvalidInputError(uri, "no such file")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="d3ke-") as folder:
        path = Path(folder) / PurePosixPath(uri).name
        system, remote = filesystem(uri)
        try:
            pafs.copy_files(remote, str(path), source_filesystem=system)
        except OSError as error:
            raise InvalidInputError(uri, f"cannot be copied ({error})") from error
        yield path


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began

    def timed(self, step: str, items: Iterator[Frame]) -> Iterator[Frame]:
        """The same items; the time each takes to be made counts for `step`."""
        while True:
            with self.measure(step):
                item = next(items, None)
            if item is None:
                return
            yield item
