"""What a scoring job counts, also of videos that are shared out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from d3ke_platform.pipelines.score_ledger import ScoreLedger
from d3ke_platform.stages.crop_video import CropRule
from d3ke_platform.stages.detect import DetectorChoice
from d3ke_platform.stages.rejects import reject_row
from d3ke_platform.stages.score_plan import ScorePlan
from d3ke_platform.stages.segment_runs import parts_of


@pytest.fixture
def ledger(tmp_path: Path) -> ScoreLedger:
    rule = CropRule(stored_size=64, cut_size=64, margin=1.0)
    choice = DetectorChoice("none", "", "")
    plan = ScorePlan(output=str(tmp_path), run="r", bundle="b", dims={}, detector=choice, rule=rule)
    return ScoreLedger(plan, videos=3, rejects=[])


def row(name: str, **more: Any) -> dict[str, Any]:
    base = {"recording_id": name, "item": f"{name}.mp4", "uri": f"{name}.mp4", "frames": 30}
    base |= {"calibrated": True, "estimated": 0, "missing": 0, "parts": [], "part": False}
    return {**base, "counts": None, "seconds": {}, **more}


def test_a_video_is_estimated_with_its_last_part(ledger: ScoreLedger) -> None:
    ledger.start_window()
    ledger.estimated(row("short", missing=0, estimated=30))
    assert ledger.estimated_videos == 1
    parts = parts_of("long", [0, 1, 2], 1)
    assert ledger.estimated(row("long", missing=30, parts=parts)) == parts
    assert ledger.estimated_videos == 1
    ledger.estimated(row("long", part=True, estimated=10))
    ledger.estimated(row("long", part=True, estimated=10))
    assert ledger.estimated_videos == 1
    ledger.estimated(row("long", part=True, estimated=10))
    assert ledger.estimated_videos == 2
    assert sorted(ledger.unfinished()) == ["long", "short"]


def test_a_part_that_is_rejected_counts_too(ledger: ScoreLedger) -> None:
    ledger.start_window()
    parts = parts_of("long", [0, 1], 1)
    ledger.estimated(row("long", missing=30, parts=parts))
    ledger.estimated(reject_row("long.mp4", "estimate", "it crashed"))
    ledger.estimated(reject_row(parts[1]["item"], "estimate", "it crashed again"))
    assert ledger.estimated_videos == 1
    assert len(ledger.rejects) == 1
    assert ledger.unfinished() == []
