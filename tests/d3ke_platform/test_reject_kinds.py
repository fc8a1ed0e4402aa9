from __future__ import annotations

import pytest

from d3ke_platform.errors import ChildCrashedError, ChildTimeoutError
from d3ke_platform.reject_kinds import reject_kind


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("a.mp4: no person found in its 3 frames.", "no person"),
        ("a.mp4: breaks off after 3 frames read (x).", "truncated"),
        (str(ChildCrashedError("trial a", -11)), "crash"),
        (str(ChildTimeoutError("trial a", 60.0)), "hang"),
        ("CropVideo.crops: needs more than the 4 GB of memory it may take.", "memory"),
        ("ZeroDivisionError: division by zero", "ZeroDivisionError"),
        ("KeyError: 'x'", "KeyError"),
        ("subject s3: marker RASI is missing.", "other"),
    ],
)
def test_reasons_have_few_kinds(reason: str, kind: str) -> None:
    assert reject_kind(reason) == kind
