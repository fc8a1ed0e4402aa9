"""Stage: one video -> the estimates of its segments. Full frames never leave a child process."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.calibration import camera_for_video, camera_from_json, camera_to_json
from d3ke_platform.isolation import Isolated, patiently
from d3ke_platform.schema import BOXES
from d3ke_platform.stages.crop_network import CropNetwork, LocalNetwork
from d3ke_platform.stages.crop_video import CropBatch, CropJob, CropVideo
from d3ke_platform.stages.estimate import EstimateArrays
from d3ke_platform.stages.export import missing_exports
from d3ke_platform.stages.local_copy import KeptCopy, LocalCopy
from d3ke_platform.stages.rejects import error_reason, reject_row
from d3ke_platform.stages.score_plan import ScorePlan
from d3ke_platform.stages.scores_folder import (
    ScoredVideo,
    estimates_uri,
    exports_uri,
    item_label,
    read_rejected,
    read_scored,
    recording_key,
    recording_name,
    rejected_uri,
    results_uri,
    write_rejected,
    write_scored,
)
from d3ke_platform.stages.segment_files import SegmentWriter
from d3ke_platform.stages.segment_runs import parts_of, runs
from d3ke_platform.stages.step_clock import StepClock
from d3ke_platform.stages.video_record import (
    VideoRecord,
    load_record,
    read_hash,
    read_record,
    record_uri,
    write_hash,
    write_record,
)

T = TypeVar("T")


class _ContentError(Exception):
    """A video that its own content makes unusable; `row` is its row of REJECTS."""

    def __init__(self, row: dict[str, str]) -> None:
        super().__init__(row["reason"])
        self.row = row


class _ChildError(Exception):
    """Something that went wrong in the child."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class ScoreVideo:
    """Decode, detect and crop in a child process; estimate; write each segment when it is done."""

    name = "estimate"

    def __init__(self, plan: ScorePlan, *, network: CropNetwork | None = None) -> None:
        """`network`: who estimates; None: a network in this process."""
        self._plan = plan
        self._network = None if plan.only_look else network or LocalNetwork(plan)
        self._copies = KeptCopy()
        self._child = Isolated(
            partial(CropVideo, plan.detector, device=plan.device),
            timeout_s=plan.timeout_s,
            memory_bytes=int(plan.memory_gb * 1e9),
        )
        if plan.detector.model:
            self._child.start()  # a model file that is none ends the job, not each video

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: a video or, of one too long for one go, some of its segments.

        A video: uri, camera (JSON values or None), optionally recording_id, boxes_uri, start_s
        and end_s. Segments: recording_id and "segments", the first and the one after the last.

        Returns one ledger row: recording_id, uri, "frames" of the recording, "estimated" frames
        of this call, "missing" frames still to do, "parts" (items that do them), "part" (it was
        one of them), "counts" (of the results, where they and the exports are there), calibrated,
        and seconds by step; or a row of REJECTS for a video that cannot be used, which is kept
        and given again until it is retried.
        """
        try:
            if "segments" in item:
                return [self._part(item["recording_id"], *item["segments"])]
            return [self._video(item)]
        except _ContentError as error:
            return [error.row]

    def look(self, item: dict[str, Any]) -> tuple[ScoredVideo, VideoRecord]:
        """What a video is, from the record kept of it or by reading the file."""
        uri = item["uri"]
        record = read_record(self._plan.output, uri)
        known = record.content_hash if record else read_hash(self._plan.output, uri)
        if known:
            key, name = self._identity(item, known)
            self._check_rejected(item, key, name)
        if record is None:
            with self._copies(uri) as copy:
                key, name = self._identity(item, copy.content_hash)
                self._check_rejected(item, key, name)
                record = self._look(item, copy, key, name)
        return self._recording(item, record, key, name), record

    def _video(self, item: dict[str, Any]) -> dict[str, Any]:
        recording, record = self.look(item)
        name = recording.recording_id
        missing = self._missing(recording, 0, recording.segments)
        frames = _frames_of(recording, missing)
        row = {**_row_of(recording), "missing": frames}
        if not missing:
            row["counts"] = self._finished(name)
        if self._plan.only_look or row["counts"] is not None:
            return row
        write_scored(self._plan.folder, recording)
        parts = parts_of(name, missing, self._plan.part_segments)
        if len(parts) > 1:
            return {**row, "parts": parts}
        seconds = self._score(recording, record, missing) if missing else {}
        return {**row, "missing": 0, "estimated": frames, "seconds": seconds}

    def _part(self, name: str, first: int, last: int) -> dict[str, Any]:
        recording = read_scored(self._plan.folder, name)
        if recording is None:
            raise InvalidInputError(name, "has no description; was the output cleared meanwhile?")
        missing = self._missing(recording, first, last)
        record = load_record(recording.index_uri)
        seconds = self._score(recording, record, missing) if missing else {}
        done = {"estimated": _frames_of(recording, missing), "seconds": seconds, "part": True}
        return {**_row_of(recording), **done}

    def _identity(self, item: dict[str, Any], content_hash: str) -> tuple[str, str]:
        """Key and id of a recording."""
        boxes = item.get("boxes_uri")
        boxes_hash = storage.content_hash(boxes) if boxes else ""
        key = recording_key(content_hash, item, boxes_hash)
        return key, recording_name(item, key)

    def _check_rejected(self, item: dict[str, Any], key: str, name: str) -> None:
        row = read_rejected(self._plan.folder, name, key)
        if row is None:
            return
        if not self._plan.retry_rejects:
            raise _ContentError({**row, "item": item_label(item)})  # wherever it lies by now
        if not self._plan.only_look:
            storage.remove(rejected_uri(self._plan.folder, name))

    @contextmanager
    def _blaming(self, item: str, key: str, name: str) -> Iterator[None]:
        """What goes wrong in the child is the video's own fault, and stays so."""
        try:
            yield
        except _ChildError as failure:
            error = failure.error
            notes = getattr(error, "__notes__", [])
            trace = "\n".join([*traceback.format_exception(error), *notes])
            row = reject_row(item, self.name, error_reason(error), trace)
            if not self._plan.only_look:
                write_rejected(self._plan.folder, name, key, row)
            raise _ContentError(row) from error

    def _ask(self, method: str, *arguments: Any) -> Any:
        """An answer of the child; a crash or a hang is given another chance, in a new child."""

        def once() -> Any:
            self._child.start()
            return next(_from_child(self._answer(method, *arguments)))

        return patiently(once, self._plan.retries, cause=_cause)

    def _answer(self, method: str, *arguments: Any) -> Iterator[Any]:
        yield self._child.call(method, *arguments)

    def _look(self, item: dict[str, Any], copy: LocalCopy, key: str, name: str) -> VideoRecord:
        """What a video that is new or has changed consists of."""
        uri = item["uri"]
        fingerprint = storage.fingerprint(uri)
        try:
            with self._blaming(item_label(item), key, name):
                info = self._ask("probe", copy.path)
        except _ContentError:
            if not self._plan.only_look:
                write_hash(self._plan.output, uri, fingerprint, copy.content_hash)
            raise
        record = VideoRecord(
            uri=uri,
            fingerprint=fingerprint,
            content_hash=copy.content_hash,
            width=info.width,
            height=info.height,
            index=info.index,
        )
        write_record(self._plan.output, record)
        return record

    def _recording(
        self, item: dict[str, Any], record: VideoRecord, key: str, name: str
    ) -> ScoredVideo:
        index = record.index
        first, count = 0, index.frame_count
        if item.get("start_s") is not None or item.get("end_s") is not None:
            last_s = item.get("end_s")
            first, count = index.between(
                float(item.get("start_s") or 0.0), float("inf") if last_s is None else float(last_s)
            )
            if not count:
                reason = f"has no frame from {item.get('start_s')} to {last_s} s"
                raise InvalidInputError(item["uri"], reason)
        return ScoredVideo(
            recording_id=name,
            uri=item["uri"],
            item=item.get("item", ""),
            content_hash=record.content_hash,
            key=key,
            fps=self._plan.frame_rate or index.fps,
            time_scale=index.fps / self._plan.frame_rate if self._plan.frame_rate else 1.0,
            first_frame=first,
            frames=count,
            width=record.width,
            height=record.height,
            camera=camera_to_json(self._camera(item, record)),
            calibrated=item.get("camera") is not None,
            detector="known" if item.get("boxes_uri") else self._plan.detector.name,
            boxes_uri=item.get("boxes_uri") or "",
            index_uri=record_uri(self._plan.output, item["uri"]),
            segment_frames=self._plan.segment_frames,
        )

    def _camera(self, item: dict[str, Any], record: VideoRecord) -> Camera:
        size = (record.width, record.height)
        if item.get("camera") is None:
            return Camera.assumed(size, self._plan.field_of_view_deg)
        return camera_for_video(camera_from_json(item["camera"]), size, item["uri"])

    def _missing(self, recording: ScoredVideo, first: int, last: int) -> list[int]:
        """Segments that are not written yet; one listing tells, however many there are."""
        folder = self._plan.folder
        there = set(storage.list_files(estimates_uri(folder, recording.recording_id), ".parquet"))
        names = {file.rsplit("/", 1)[-1] for file in there}
        return [
            number
            for number in range(first, last)
            if recording.segment_uri(folder, number).rsplit("/", 1)[-1] not in names
        ]

    def _finished(self, name: str) -> dict[str, int] | None:
        """Counts of a recording whose results and exports are there."""
        uri = results_uri(self._plan.folder, name)
        if not storage.exists(uri):
            return None
        if missing_exports(exports_uri(self._plan.folder, name), self._plan.exports):
            return None
        return storage.read_metadata(uri, "scored")

    def _score(
        self, recording: ScoredVideo, record: VideoRecord, missing: list[int]
    ) -> dict[str, float]:
        """Estimate and write segments; returns seconds by step."""
        clock = StepClock()
        with (
            self._copies(recording.uri, content_hash=recording.content_hash) as copy,
            self._blaming(recording.label, recording.key, recording.recording_id),
        ):
            job = self._job(recording, record, copy.path)

            def once() -> None:
                left = self._missing(recording, missing[0], missing[-1] + 1)
                for first, last in runs(left):
                    self._stream(recording, job(first, last), clock)

            patiently(once, self._plan.retries, cause=_cause)
        return clock.seconds

    def _job(
        self, recording: ScoredVideo, record: VideoRecord, path: Path
    ) -> Callable[[int, int], CropJob]:
        """Makes the job of the segments from the first number up to the last, not included."""
        index, rule, length = record.index, self._plan.rule, recording.segment_frames
        around = rule.most_around(index.fps)
        boxes = survey = None
        if recording.boxes_uri:
            boxes = BOXES.to_numpy(storage.read_table(recording.boxes_uri))
        elif recording.detector == "fallback":
            survey = self._ask("survey", path, index)

        def job(first: int, last: int) -> CropJob:
            begin = recording.first_frame + first * length
            end = min(recording.first_frame + last * length, recording.end_frame)
            start = max(begin - around, 0)
            stop = min(end + around, index.frame_count)
            return CropJob(
                path=path,
                index=index.part(start, stop - start),
                camera=recording.camera,
                first=begin,
                last=end,
                begin=recording.first_frame,
                end=recording.end_frame,
                segment_frames=length,
                batch_size=self._plan.batch_size,
                rule=rule,
                boxes=boxes,
                survey=survey,
            )

        return job

    def _stream(self, recording: ScoredVideo, job: CropJob, clock: StepClock) -> None:
        network = self._network
        assert network is not None
        writer = SegmentWriter(self._plan.folder, recording, self._plan.dims, job.rule.people)
        waiting: deque[tuple[CropBatch, Any]] = deque()
        self._child.start()

        def settle() -> None:
            batch, ticket = waiting.popleft()
            with clock.measure("network"):
                estimate = network.result(ticket) if len(batch.images) else self._nothing()
            with clock.measure("write"):
                writer.add(batch, estimate)

        # Closed at once when the network fails: the child must not be ended at the next video.
        with closing(self._child.stream("crops", job)) as batches:
            for batch in _from_child(batches):
                for step, seconds in batch.seconds.items():
                    clock.add(step, seconds)
                with clock.measure("network"):
                    ticket = network.submit(batch.images) if len(batch.images) else None
                waiting.append((batch, ticket))
                while len(waiting) > network.ahead:
                    settle()
        while waiting:
            settle()

    def _nothing(self) -> EstimateArrays:
        """Estimates of no crops."""
        dims = self._plan.dims
        shapes = ((0, dims["P"]), (0, 3, 3), (0, dims["S"]))
        return EstimateArrays(*(np.zeros(shape) for shape in shapes))


def _from_child(answers: Iterator[T]) -> Iterator[T]:
    """The same answers; what goes wrong in getting one is a `_ChildError`."""
    while True:
        try:
            answer = next(answers)
        except StopIteration:
            return
        except Exception as error:
            raise _ChildError(error) from error
        yield answer


def _cause(error: Exception) -> Exception:
    return error.error if isinstance(error, _ChildError) else error


def _frames_of(recording: ScoredVideo, segments: list[int]) -> int:
    """Frames in some of a recording's segments."""
    length = recording.segment_frames
    return sum(min(length, recording.frames - number * length) for number in segments)


def _row_of(recording: ScoredVideo) -> dict[str, Any]:
    return {
        "recording_id": recording.recording_id,
        "item": recording.label,
        "uri": recording.uri,
        "frames": recording.frames,
        "calibrated": recording.calibrated,
        "estimated": 0,
        "missing": 0,
        "parts": [],
        "part": False,
        "counts": None,
        "seconds": {},
    }
