"""A part of a video -> batches of crops, in one pass; the part of scoring that runs in a child.

Decoders and detectors are native code that crashes, hangs and fills the memory on hostile files,
so this module imports no PyTorch: a child of it starts fast and is small. A frame is kept until the
boxes of the people in it are known, then it is cropped and forgotten.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from d3ke.arrays import ImageArray
from d3ke.camera import Camera, crop_camera, warp
from d3ke_platform.calibration import camera_from_json
from d3ke_platform.stages.decode import Frame, VideoInfo, frames, probe
from d3ke_platform.stages.detect import DetectorChoice, KnownBoxes, PersonFinder, build_finder
from d3ke_platform.stages.step_clock import StepClock
from d3ke_platform.stages.tracks import Box, People, Place, Tracker, TrackRule
from d3ke_platform.stages.video_index import VideoIndex

if TYPE_CHECKING:
    from d3ke_platform.stages.detect_fallback import Survey

FRAME_MEMORY_BYTES = 400_000_000
"""Of the frames that wait for their boxes; larger pictures have shorter gaps bridged."""
_BLOCK = 8
_SIGN_OF_LIFE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class CropRule:
    """How people are found and cut out; what changes a crop."""

    stored_size: int
    """Side of a crop with its margin, px; the crop camera's."""
    cut_size: int
    """Side of the middle of it that is cut out, px."""
    margin: float
    """Side of a crop with its margin, in longer box sides."""
    detect_every: int = 3
    """People are looked for in every n-th frame."""
    gap_s: float = 0.5
    """Time without a detection that boxes are interpolated over, s."""
    smoothing_s: float = 0.05
    """Standard deviation of the smoothing of boxes, s."""
    people: People = "largest"
    """Who is cut out."""

    def track_rule(self, finder: PersonFinder, fps: float, frame_bytes: int) -> TrackRule:
        """The rule in frames of a video, whose waiting frames must fit the memory."""
        sigma = self.smoothing_s * fps if finder.smooth else 0.0
        every = 1 if finder.every_frame else self.detect_every
        rule = TrackRule(every=every, gap=0, sigma=sigma, people=self.people)
        room = FRAME_MEMORY_BYTES // max(frame_bytes, 1) - rule.smoothed - _BLOCK - every
        wanted = 0 if finder.every_frame else round(self.gap_s * fps)
        return replace(rule, gap=max(0, min(wanted, room)))

    def most_around(self, fps: float) -> int:
        """Frames before and after a part that are decoded at most for what is said of it."""
        rule = TrackRule(
            every=self.detect_every, gap=round(self.gap_s * fps), sigma=self.smoothing_s * fps
        )
        return rule.reach


@dataclass(frozen=True, kw_only=True)
class CropJob:
    """A part of a video to cut people out of."""

    path: Path
    """A local file."""
    index: VideoIndex
    """Of the video, or of the part with `CropRule.most_around` frames around it."""
    camera: Mapping[str, Any]
    """JSON values of the camera."""
    first: int
    """First frame of the part."""
    last: int
    """Frame after the part."""
    begin: int
    """First frame of the recording: a video, or a range of it."""
    end: int
    """Frame after the recording."""
    segment_frames: int = 512
    """Frames that are reported as finished together."""
    batch_size: int = 64
    """Crops that are passed on together."""
    rule: CropRule
    """How to crop."""
    boxes: Mapping[str, np.ndarray] | None = None
    """Columns of a BOXES table, where the boxes are known."""
    survey: Any = None
    """`detect_fallback.Survey`, where that detector is used."""


class SegmentEnd(NamedTuple):
    """All crops of a segment have been passed on."""

    number: int
    """Its first frame is number * segment_frames."""
    frames: int
    """Decoded frames."""
    entering: dict[int, Place]
    """Tracks that may come from the segment before, by a detection both segments know."""
    leaving: dict[int, Place]
    """Tracks that may go on in the next one."""


class CropBatch(NamedTuple):
    """Crops in the order of their frames."""

    images: ImageArray
    """[n,S,S,3] uint8 RGB."""
    columns: dict[str, np.ndarray]
    """frame, time_s, track, box, confidence and the crop's camera, n rows each."""
    ended: list[SegmentEnd]
    """Segments that end with these crops."""
    seconds: dict[str, float]
    """Work since the batch before, by step."""


_LEARNED = ("mediapipe", "fasterrcnn")


class CropVideo:
    """Made once per child; loads the detector, so that what it takes is no video's fault."""

    def __init__(self, detector: DetectorChoice, *, device: str = "auto") -> None:
        """The choice, and the device of a detector that is a network."""
        cv2.setNumThreads(1)  # there is a child for every core
        self._choice, self._device = detector, device
        self._finder: PersonFinder | None = None
        if detector.name in _LEARNED:
            self._finder = build_finder(detector, device=device)
            black = np.zeros((256, 256, 3), np.uint8)
            self._finder.people(Frame(index=0, time_s=0.0, image=black))

    def probe(self, path: Path) -> VideoInfo:
        """What a video consists of; raises InvalidInputError."""
        return probe(path)

    def survey(self, path: Path, index: VideoIndex) -> Survey | None:
        """A look at frames spread over a video, for the fallback detector."""
        from d3ke_platform.stages.detect_fallback import SURVEYED_FRAMES, survey

        spread = np.linspace(0, index.frame_count - 1, SURVEYED_FRAMES)
        chosen = sorted({round(place) for place in spread})
        starts = np.array([point.frame for point in index.seek_points])
        nearest = np.searchsorted(starts, chosen, side="right")
        # What lies behind one key frame is decoded once: key frames may be 250 frames apart.
        groups = np.split(np.array(chosen), np.flatnonzero(np.diff(nearest)) + 1)
        return survey(
            frame
            for group in groups
            for frame in frames(
                path, first=int(group[0]), count=int(np.ptp(group)) + 1, index=index
            )
            if frame.index in group
        )

    def crops(self, job: CropJob) -> Iterator[CropBatch | None]:
        """Batches of a part, None now and then as a sign of life.

        Raises InvalidInputError when the video cannot be read.
        """
        return _CropRun(job, self._finder_for(job)).batches()

    def _finder_for(self, job: CropJob) -> PersonFinder:
        if job.boxes is not None:
            return KnownBoxes(job.boxes["frame"], job.boxes["box"], job.boxes["confidence"])
        if self._choice.name == "fallback":
            return build_finder(self._choice, survey=job.survey)
        if self._finder is None:
            self._finder = build_finder(self._choice, device=self._device)
        return self._finder


def track_rule(job: CropJob, finder: PersonFinder) -> TrackRule:
    """The rule of a video in frames."""
    width, height = job.camera["size"]
    return job.rule.track_rule(finder, job.index.fps, int(width) * int(height) * 3)


@dataclass
class _Segment:
    """What has been seen of the segment being made."""

    number: int
    frames: int = 0
    entering: dict[int, Place] = field(default_factory=dict)
    leaving: dict[int, Place] = field(default_factory=dict)


class _CropRun:
    """One pass over one part."""

    def __init__(self, job: CropJob, finder: PersonFinder) -> None:
        self._job, self._finder = job, finder
        self._rule = track_rule(job, finder)
        self._tracker = Tracker(self._rule, begin=job.begin, end=job.end)
        self._camera = camera_from_json(job.camera)
        self._clock = StepClock()
        self._waiting: deque[Frame] = deque()
        self._images: list[ImageArray] = []
        self._rows: list[dict[str, Any]] = []
        self._ended: list[SegmentEnd] = []
        self._segment = _Segment(self._number(job.first))
        self._alive_at = time.monotonic()

    def batches(self) -> Iterator[CropBatch | None]:
        """Everything; the last batch has the end of the last segment."""
        known = self._job.first
        settled = self._job.first
        for frame in self._clock.timed("decode", self._decoded()):
            known = frame.index + 1
            self._look_at(frame)
            if known - self._rule.reach - settled >= _BLOCK:
                ready = min(known - self._rule.reach, self._job.last)
                yield from self._crop(settled, ready)
                settled = max(settled, ready)
            yield from self._sign_of_life()
        yield from self._crop(settled, self._job.last)
        self._end_segment()
        yield self._batch()

    def _number(self, frame: int) -> int:
        """Segment of a frame; segments are counted from the start of the recording."""
        return (frame - self._job.begin) // self._job.segment_frames

    def _decoded(self) -> Iterator[Frame]:
        """Frames of the part, and of the recording around it."""
        job, reach = self._job, self._rule.reach
        first, last = max(job.begin, job.first - reach), min(job.end, job.last + reach)
        return frames(job.path, first=first, count=last - first, index=job.index)

    def _look_at(self, frame: Frame) -> None:
        if (frame.index - self._job.begin) % self._rule.every == 0:
            with self._clock.measure("detect"):
                self._tracker.add(frame.index, self._finder.people(frame))
        if self._job.first <= frame.index < self._job.last:
            self._waiting.append(frame)

    def _sign_of_life(self) -> Iterator[None]:
        if time.monotonic() - self._alive_at > _SIGN_OF_LIFE_S:
            self._alive_at = time.monotonic()
            yield None

    def _crop(self, first: int, last: int) -> Iterator[CropBatch]:
        if last <= first:
            return
        with self._clock.measure("detect"):
            settled = self._tracker.boxes(first, last)
        for index, people in zip(range(first, last), settled, strict=True):
            frame = self._waiting.popleft()
            assert frame.index == index
            if self._number(index) != self._segment.number:
                self._end_segment()
            self._note(index, people)
            for person in people:
                with self._clock.measure("crop"):
                    self._cut(frame, person)
                if len(self._images) == self._job.batch_size:
                    yield self._batch()

    def _note(self, index: int, people: list[Box]) -> None:
        """Remember who could have come from the segment before, or could go on in the next."""
        segment = self._segment
        segment.frames += 1
        if self._number(index - 1) != segment.number:
            segment.entering = {person.track: person.origin for person in people}
        if self._number(index + 1) != segment.number:
            segment.leaving = {person.track: person.onward for person in people}

    def _cut(self, frame: Frame, person: Box) -> None:
        rule = self._job.rule
        view = crop_camera(self._camera, person.box, size=rule.stored_size, margin=rule.margin)
        self._images.append(warp(frame.image, self._camera, middle(view, rule.cut_size)))
        self._rows.append(
            {
                "frame": frame.index,
                "time_s": frame.time_s,
                "track": person.track,
                "box": person.box,
                "confidence": person.confidence,
                "crop_intrinsics": view.intrinsics,
                "crop_rotation": view.rotation,
                "crop_translation": view.translation,
            }
        )

    def _end_segment(self) -> None:
        done = self._segment
        if done.frames:
            self._ended.append(SegmentEnd(done.number, done.frames, done.entering, done.leaving))
        self._segment = _Segment(done.number + 1)

    def _batch(self) -> CropBatch:
        size = self._job.rule.cut_size
        images = np.stack(self._images) if self._images else np.empty((0, size, size, 3), np.uint8)
        columns: dict[str, np.ndarray] = {
            name: np.array([row[name] for row in self._rows], kind).reshape(-1, *shape)
            for name, (kind, shape) in _COLUMNS.items()
        }
        batch = CropBatch(images, columns, self._ended, self._clock.seconds)
        self._images, self._rows, self._ended = [], [], []
        self._clock.seconds = {}
        self._alive_at = time.monotonic()
        return batch


_COLUMNS: dict[str, tuple[type, tuple[int, ...]]] = {
    "frame": (np.int32, ()),
    "time_s": (np.float64, ()),
    "track": (np.int32, ()),
    "box": (np.float64, (4,)),
    "confidence": (np.float64, ()),
    "crop_intrinsics": (np.float64, (3, 3)),
    "crop_rotation": (np.float64, (3, 3)),
    "crop_translation": (np.float64, (3,)),
}


def middle(view: Camera, size: int) -> Camera:
    """The middle `size` pixels of a square camera: the same picture without its margin."""
    cut = (view.size[0] - size) // 2
    if cut == 0:
        return view
    intrinsics = view.intrinsics.copy()
    intrinsics[:2, 2] -= cut
    return replace(view, intrinsics=intrinsics, size=(size, size))
