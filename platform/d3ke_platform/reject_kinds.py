"""Short names of the reasons for rejects: few enough to count by and to draw."""

from __future__ import annotations

import re

_KINDS = {
    "the file is empty": "empty file",
    "no such file": "missing file",
    "cannot be opened": "truncated or not a video",
    "breaks off": "truncated",
    "is damaged": "damaged",
    "holds no video stream": "no video stream",
    "holds no video frame": "no video frame",
    "no person found": "no person",
    "is calibrated for": "other picture size than its camera",
    "no answer within": "hang",
    "of memory it may take": "memory",
    "Insufficient memory": "memory",
    "Cannot allocate memory": "memory",
    "process died": "crash",
    "leads out of": "outside the archive",
    "pixels; the limit": "too large",
    "was not scaled": "subject not scaled",
    "cannot be copied": "not copied",
}
# Reasons of defects begin with the exception's name: "ZeroDivisionError: division by zero".
_DEFECT = re.compile(r"([A-Z]\w*(?:Error|Exception|Warning)): ")


def reject_kind(reason: str) -> str:
    """Short name of a reject's reason; "other" for bad input without a name of its own."""
    for part, kind in _KINDS.items():
        if part in reason:
            return kind
    defect = _DEFECT.match(reason)
    return defect.group(1) if defect else "other"
