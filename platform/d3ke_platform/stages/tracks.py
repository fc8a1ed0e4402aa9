"""People followed through a video, from detections in every n-th frame to a box in every frame.

What is said of a frame depends on detections at most `TrackRule.reach` frames away, so that any
part of a video gives the boxes and the people of the whole: links between detections depend on
nothing but the detections between them, and are never taken back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from d3ke.arrays import FloatArray, IntArray
from d3ke.errors import InvalidInputError
from d3ke_platform.stages.detect import Detection

LEAST_OVERLAP = 0.3
"""Intersection over union from which two boxes can be one person."""
_SIGMAS = 4.0

People = Literal["largest", "all"]
Place = tuple[int, int]
"""A detection: its frame, and its number in that frame from left to right."""


@dataclass(frozen=True, kw_only=True)
class TrackRule:
    """How detections become boxes; lengths in frames."""

    every: int = 1
    """Frames 0, every, 2 every ... of the video are looked at."""
    gap: int = 15
    """Frames without a detection that a box is interpolated over."""
    sigma: float = 0.0
    """Standard deviation of the smoothing of boxes over time; 0: none."""
    people: People = "largest"
    """Who is followed. largest: the largest person of each moment, held for `gap` frames before
    the first and after the last detection. all: everybody."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.gap < 0 or self.sigma < 0:
            reason = "every must be 1 or more, gap and sigma not negative"
            raise InvalidInputError(f"track rule {self}", reason)

    @property
    def smoothed(self) -> int:
        """Frames before and after a frame that its box is smoothed over."""
        return math.ceil(_SIGMAS * self.sigma)

    @property
    def bridged(self) -> int:
        """Longest distance of two detections that follow each other."""
        return max(self.gap, self.every)

    @property
    def reach(self) -> int:
        """Frames before and after a frame that can change what is said of it."""
        return self.bridged + self.smoothed

    @property
    def hold(self) -> int:
        """Frames before its first and after its last detection that a person is still there."""
        return self.bridged if self.people == "largest" else self.every - 1


class Box(NamedTuple):
    """One person in one frame."""

    track: int
    """Number of the person among those this tracker has seen; 0 for the largest."""
    box: FloatArray
    """[x0,y0,x1,y1] px."""
    confidence: float
    """Of the detection; 0 where the box is interpolated or held."""
    origin: Place
    """A detection that tells the person wherever the video is cut: the last one before this
    frame, or, without one, the next."""
    onward: Place
    """The `origin` that the same person has in the next frame."""


@dataclass
class _Chain:
    """Detections of one person, in time order."""

    places: list[Place]
    frames: IntArray = field(init=False)
    boxes: FloatArray = field(init=False)
    areas: FloatArray = field(init=False)

    def fill(self, detections: Mapping[int, Sequence[Detection]]) -> None:
        found = [detections[frame][number] for frame, number in self.places]
        self.frames = np.array([frame for frame, _ in self.places])
        self.boxes = np.array([item.box for item in found])
        sides = np.clip(self.boxes[:, 2:] - self.boxes[:, :2], 0, None)
        self.areas = sides[:, 0] * sides[:, 1]


class Tracker:
    """Boxes of everybody wanted, frame by frame, a little behind the detections."""

    def __init__(self, rule: TrackRule, *, begin: int = 0, end: int) -> None:
        """Args: the rule; the first frame of the recording and the frame after its last."""
        self.rule = rule
        self._begin, self._end = begin, end
        self._detections: dict[int, list[Detection]] = {}
        self._numbers: dict[Place, int] = {}
        self._next_number = 0

    def add(self, frame: int, detections: Sequence[Detection]) -> None:
        """What was found in a frame; frames come in order."""
        ordered = sorted(detections, key=lambda item: tuple(item.box))
        self._detections[frame] = ordered

    def boxes(self, first: int, last: int) -> list[list[Box]]:
        """Boxes of the frames from `first` up to `last`, not included; earlier ones are forgotten.

        Args:
            first: Where the call before stopped, or the first frame wanted.
            last: At most `reach` frames before the last frame known, or the end.
        """
        self._forget(first - 2 * self.rule.reach)
        chains = self._chains()
        return [self._frame(frame, chains) for frame in range(first, last)]

    def _forget(self, before: int) -> None:
        self._detections = {k: v for k, v in self._detections.items() if k >= before}
        self._numbers = {place: n for place, n in self._numbers.items() if place[0] >= before}

    def _chains(self) -> list[tuple[int, _Chain]]:
        """Everybody with a number that stays."""
        chains = link(self._detections, every=self.rule.every, bridged=self.rule.bridged)
        result = []
        for chain in chains:
            chain.fill(self._detections)
            known = [self._numbers[place] for place in chain.places if place in self._numbers]
            number = known[0] if known else self._next_number
            self._next_number += not known
            self._numbers.update(dict.fromkeys(chain.places, number))
            result.append((number, chain))
        return result

    def _frame(self, frame: int, chains: list[tuple[int, _Chain]]) -> list[Box]:
        hold = self.rule.hold
        present = [
            (number, chain)
            for number, chain in chains
            if chain.frames[0] - hold <= frame <= chain.frames[-1] + hold
        ]
        if self.rule.people == "all":
            return [self._box(frame, number, chain) for number, chain in present]
        if not present:
            return []
        _, chain = max(present, key=lambda item: self._prominence(frame, item[1]))
        return [self._box(frame, 0, chain)]

    def _prominence(self, frame: int, chain: _Chain) -> tuple[bool, float, int]:
        """Who really is there before who is held, then who is larger and has been seen more often
        around, then who is further left."""
        there = bool(chain.frames[0] <= frame <= chain.frames[-1])
        near = np.abs(chain.frames - frame) <= self.rule.bridged
        return there, float(chain.areas[near].sum()), -chain.places[int(np.argmax(near))][1]

    def _box(self, frame: int, number: int, chain: _Chain) -> Box:
        before, until = np.searchsorted(chain.frames, [frame, frame + 1])
        confidence = 0.0
        if before < until:
            confidence = self._detections[frame][chain.places[before][1]].confidence
        return Box(
            track=number,
            box=self._smooth(frame, chain),
            confidence=confidence,
            origin=chain.places[max(before - 1, 0)],
            onward=chain.places[max(until - 1, 0)],
        )

    def _smooth(self, frame: int, chain: _Chain) -> FloatArray:
        """Gaussian mean over the frames around, of equal reach to both sides: at the start and the
        end of a person's time a one-sided window would pull the box inwards."""
        first = max(int(chain.frames[0]) - self.rule.hold, self._begin)
        last = min(int(chain.frames[-1]) + self.rule.hold, self._end - 1)
        near = max(0, min(self.rule.smoothed, frame - first, last - frame))
        around = np.arange(frame - near, frame + near + 1)
        boxes = np.stack([np.interp(around, chain.frames, side) for side in chain.boxes.T], axis=1)
        if near == 0:
            return boxes[0]
        weight = np.exp(-0.5 * ((around - frame) / self.rule.sigma) ** 2)
        return (weight / weight.sum()) @ boxes


def link(
    detections: Mapping[int, Sequence[Detection]], *, every: int, bridged: int
) -> list[_Chain]:
    """Who is who: chains of detections, in the order of their first one.

    Neighbouring frames first, then those one further apart, and so on up to `bridged`: two
    detections that nobody else has claimed are linked where each overlaps the other most. Links
    over a distance depend on nothing outside it.
    """
    following: dict[Place, Place] = {}
    claimed: set[Place] = set()
    for distance in range(every, bridged + 1, every):
        for frame in sorted(detections):
            if frame + distance not in detections:
                continue
            ends = _free(detections, frame, following)
            starts = _free(detections, frame + distance, claimed)
            for end, start in _mutual_best(detections, ends, starts):
                following[end] = start
                claimed.add(start)
    chains = []
    for frame in sorted(detections):
        for number in range(len(detections[frame])):
            if (frame, number) in claimed:
                continue
            places = [(frame, number)]
            while places[-1] in following:
                places.append(following[places[-1]])
            chains.append(_Chain(places))
    return chains


def _free(
    detections: Mapping[int, Sequence[Detection]],
    frame: int,
    taken: Mapping[Place, Place] | set[Place],
) -> list[Place]:
    places = [(frame, number) for number in range(len(detections[frame]))]
    return [place for place in places if place not in taken]


def _mutual_best(
    detections: Mapping[int, Sequence[Detection]], ends: list[Place], starts: list[Place]
) -> list[tuple[Place, Place]]:
    if not ends or not starts:
        return []
    overlaps = overlap(
        np.array([detections[frame][number].box for frame, number in ends]),
        np.array([detections[frame][number].box for frame, number in starts]),
    )
    pairs = []
    for row, place in enumerate(ends):
        column = int(np.argmax(overlaps[row]))
        if overlaps[row, column] >= LEAST_OVERLAP and int(np.argmax(overlaps[:, column])) == row:
            pairs.append((place, starts[column]))
    return pairs


def overlap(first: FloatArray, second: FloatArray) -> FloatArray:
    """Intersection over union [n,m] of boxes [n,4] and [m,4]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [
        np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=-1) for boxes in (first, second)
    ]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)
