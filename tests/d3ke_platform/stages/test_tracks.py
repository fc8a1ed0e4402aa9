"""People followed through a video: the same boxes and people wherever the work begins."""

from __future__ import annotations

import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke_platform.stages.detect import Detection
from d3ke_platform.stages.tracks import Box, Tracker, TrackRule, overlap

FRAMES = 120


def crowd(seed: int, *, people: int = 3, missed: float = 0.25) -> list[list[Detection]]:
    """Boxes of people who walk past each other, come and go, and are missed now and then."""
    random = np.random.default_rng(seed)
    found: list[list[Detection]] = [[] for _ in range(FRAMES)]
    for person in range(people):
        arrives, leaves = sorted(random.choice(FRAMES, 2, replace=False))
        start, speed = random.uniform(0, 600), random.uniform(-4, 4)
        width, height = random.uniform(40, 80), random.uniform(100, 220)
        for frame in range(arrives, leaves):
            if random.random() < missed:
                continue
            x, y = start + speed * (frame - arrives), 50 + 5 * np.sin(frame / 5 + person)
            noise = random.normal(0, 1.5, 4)
            box = np.array([x, y, x + width, y + height]) + noise
            found[frame].append(Detection(box, float(random.uniform(0.5, 1))))
    return found


def follow(
    rule: TrackRule, found: list[list[Detection]], first: int, last: int, block: int
) -> list[list[Box]]:
    """Boxes of a part, from detections around it only, settled `block` frames at a time."""
    begin, end = max(0, first - rule.reach), min(FRAMES, last + rule.reach)
    tracker = Tracker(rule, end=FRAMES)
    boxes: list[list[Box]] = []
    settled = first
    for frame in range(begin, end):
        if frame % rule.every == 0:
            tracker.add(frame, found[frame])
        ready = min(frame + 1 - rule.reach, last)
        if ready - settled >= block:
            boxes += tracker.boxes(settled, ready)
            settled = ready
    return boxes + tracker.boxes(settled, last)


@pytest.mark.parametrize("people", ["largest", "all"])
@pytest.mark.parametrize(("every", "gap", "sigma"), [(1, 6, 0.0), (3, 7, 1.5), (4, 2, 2.0)])
def test_any_part_says_what_the_whole_says(people: str, every: int, gap: int, sigma: float) -> None:
    rule = TrackRule(every=every, gap=gap, sigma=sigma, people=people)  # type: ignore[arg-type]
    for seed in range(4):
        found = crowd(seed)
        whole = follow(rule, found, 0, FRAMES, FRAMES)
        assert any(whole)
        for cut, block in ((32, 1), (50, 8)):
            parts = [
                boxes
                for first in range(0, FRAMES, cut)
                for boxes in follow(rule, found, first, min(first + cut, FRAMES), block)
            ]
            for frame, (one, other) in enumerate(zip(whole, parts, strict=True)):
                one, other = (sorted(boxes, key=lambda b: b.origin) for boxes in (one, other))
                assert [b.origin for b in one] == [b.origin for b in other], frame
                assert [b.onward for b in one] == [b.onward for b in other], frame
                for a, b in zip(one, other, strict=True):
                    np.testing.assert_allclose(a.box, b.box, atol=1e-9)
                    assert a.confidence == b.confidence


def test_numbers_stay_with_people_who_cross() -> None:
    rule = TrackRule(every=2, gap=8, people="all")
    found: list[list[Detection]] = []
    for frame in range(FRAMES):
        # One walks to the right, a much taller one to the left behind; they cross at frame 60.
        one, other = 100.0 + 3 * frame, 460.0 - 3 * frame
        both = [
            Detection(np.array([one, 100, one + 60, 200]), 1.0),
            Detection(np.array([other, 20, other + 90, 300]), 1.0),
        ]
        found.append(both if frame % 3 else both[::-1])
    boxes = follow(rule, found, 0, FRAMES, 10)
    heights = {
        person.track: {round(float(person.box[3] - person.box[1])) for person in frame}
        for frame in boxes
        for person in frame
    }
    assert len(heights) == 2
    for track in heights:
        tall = [p.box[3] - p.box[1] for frame in boxes for p in frame if p.track == track]
        assert np.ptp(tall) < 1e-9
        assert len(tall) == FRAMES


def test_a_gap_is_bridged_up_to_its_limit_and_a_person_held_as_long() -> None:
    box = np.array([10.0, 20, 60, 120])
    found: list[list[Detection]] = [[] for _ in range(FRAMES)]
    for frame in (20, 26, 40):
        found[frame] = [Detection(box + frame, 0.9)]
    rule = TrackRule(gap=6)
    boxes = follow(rule, found, 0, FRAMES, 5)
    there = [frame for frame, people in enumerate(boxes) if people]
    assert there == [*range(14, 33), *range(34, 47)]
    np.testing.assert_allclose(boxes[23][0].box, box + 23)  # between two detections
    np.testing.assert_allclose(boxes[15][0].box, box + 20)  # held
    assert [boxes[frame][0].confidence for frame in (20, 23, 26)] == [0.9, 0.0, 0.9]
    everybody = follow(TrackRule(gap=6, people="all"), found, 0, FRAMES, 5)
    assert [f for f, p in enumerate(everybody) if p] == [*range(20, 27), 40]


def test_the_largest_is_followed_and_not_who_passes_closer_for_a_moment() -> None:
    rule = TrackRule(gap=10)
    found = []
    for frame in range(FRAMES):
        large = Detection(np.array([100.0, 100, 200, 300]), 1.0)
        side = 150.0 if 50 <= frame < 53 else 60.0  # one detection of three frames is too large
        small = Detection(np.array([400.0, 100, 400 + side, 100 + 2 * side]), 1.0)
        found.append([small, large])
    assert all(people[0].box[0] == 100 for people in follow(rule, found, 0, FRAMES, 8))


def test_rules_and_overlaps() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    np.testing.assert_allclose(overlap(boxes[:1], boxes), [[1, 1 / 3, 0]])
    for bad in ({"every": 0}, {"gap": -1}, {"sigma": -0.1}):
        with pytest.raises(InvalidInputError):
            TrackRule(**bad)  # type: ignore[arg-type]
