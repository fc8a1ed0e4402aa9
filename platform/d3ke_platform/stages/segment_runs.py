"""Which segments of a recording are scored in one go."""

from __future__ import annotations

from typing import Any


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers: the first and the one after the last."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def parts_of(name: str, missing: list[int], most: int) -> list[dict[str, Any]]:
    """Items for runs of missing segments, none longer than `most`."""
    pieces = [
        (start, min(start + most, last))
        for first, last in runs(missing)
        for start in range(first, last, most)
    ]
    return [
        {"item": f"{name} {first}-{last}", "recording_id": name, "segments": (first, last)}
        for first, last in pieces
    ]
