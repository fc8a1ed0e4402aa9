"""The page that tells what a search found: one HTML file with everything in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3ke_platform import storage
from d3ke_platform.evaluation.page import environment
from d3ke_platform.evaluation.plotting import Picture
from d3ke_platform.tuning.importance import FEWEST_TRIALS, importances
from d3ke_platform.tuning.ledger import Ledger, TrialRecord
from d3ke_platform.tuning.parameters import label
from d3ke_platform.tuning.pareto import POSITION, SPEED, front_of
from d3ke_platform.tuning.pictures import front, history, parallel_coordinates
from d3ke_platform.tuning.settings import StageOutcome, TuneSettings
from d3ke_platform.tuning.space import SearchSpace

_TITLES = {"frame": "Per-frame network", "sequence": "Sequence network"}


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """The search of one network."""

    space: SearchSpace
    ledger: Ledger
    outcome: StageOutcome


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything the page tells."""

    settings: TuneSettings
    data_hash: str
    stages: Sequence[StageReport]
    recipe: Path
    recipe_text: str


def write_report(path: Path, content: ReportContent) -> Path:
    """Write the page; returns its absolute path."""
    template = environment(Path(__file__).parent / "templates").get_template("tuning.html.j2")
    page = template.render(
        settings=content.settings,
        data_hash=content.data_hash,
        recipe=content.recipe,
        recipe_text=content.recipe_text,
        stages=[_stage(stage) for stage in content.stages],
        fewest=FEWEST_TRIALS,
    )
    storage.write_bytes(path, page.encode())
    return path.absolute()


def _stage(stage: StageReport) -> dict[str, Any]:
    """What the template shows of one network."""
    records, space, outcome = stage.ledger.records, stage.space, stage.outcome
    on_two = {record.number for record in front_of(records, (SPEED,))}
    on_three = {record.number for record in front_of(records, (SPEED, POSITION))}
    gain = None
    if outcome.recipe_value:
        gain = 100 * (1 - outcome.value / outcome.recipe_value)
    pictures: list[Picture | None] = [
        history(stage.ledger, records),
        parallel_coordinates(space, records),
        front(records),
    ]
    return {
        "name": outcome.stage,
        "title": _TITLES[outcome.stage],
        "outcome": outcome,
        "gain": gain,
        "parameters": [name.partition(".")[2] for name in space.names],
        "ranges": space.text(),
        "trials": [_row(r, space, on_two, on_three) for r in records],
        "seconds": sum(record.seconds for record in records),
        "label_speed": next(
            (r.errors.get("mv_main_label_deg_s") for r in records if r.errors), None
        ),
        "importances": _importances(space, records),
        "pictures": [shown for shown in pictures if shown is not None],
    }


def _row(
    record: TrialRecord, space: SearchSpace, on_two: set[int], on_three: set[int]
) -> dict[str, Any]:
    return {
        "record": record,
        "values": [label(record.parameters[name]) for name in space.names],
        "mpblpe": record.errors.get(POSITION),
        "speed": record.errors.get(SPEED),
        "front": "2, 3" if record.number in on_two else "3" if record.number in on_three else "",
    }


def _importances(space: SearchSpace, records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Rows of the importance table, the most important first."""
    found = importances(space, records)
    if not found:
        return []
    first = next(iter(found.values()))
    names = sorted(space.names, key=lambda name: -first.get(name, 0.0))
    return [
        {"name": name.partition(".")[2], **{method: found[method].get(name) for method in found}}
        for name in names
    ]
