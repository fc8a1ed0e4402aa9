"""What a search tells of itself to dashboards."""

from __future__ import annotations

from collections import Counter

import pytest
from tuning_cases import make_search, row

from d3ke_platform import telemetry

LABELS = {"stage": "sequence"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, ...]]:
    """Last values of gauges and sums of counters, by name and labels."""
    values: Counter[tuple[str, ...]] = Counter()

    def key(name: str, labels: dict[str, str]) -> tuple[str, ...]:
        assert set(labels) == set(telemetry.METRICS[name].labels)
        return (name, *(labels[label] for label in telemetry.METRICS[name].labels))

    def gauge(name: str, value: float, **labels: str) -> None:
        values[key(name, labels)] = value

    def count(name: str, value: float = 1.0, **labels: str) -> None:
        values[key(name, labels)] += value

    monkeypatch.setattr(telemetry, "gauge", gauge)
    monkeypatch.setattr(telemetry, "count", count)
    return values


def test_trials_by_state_epochs_and_the_lowest_error(tmp_path, told) -> None:
    search = make_search(tmp_path / "search" / "sequence", trials=4)

    def states() -> dict[str, float]:
        where = ("d3ke_tune_trials", "search", "sequence")
        return {key[3]: value for key, value in told.items() if key[:3] == where}

    search.next()
    search.next()
    assert states() == {"running": 2, "finished": 0, "stopped": 0, "failed": 0, "planned": 2}
    search.row(1, row(1, 5.0))
    search.row(1, row(2, 4.0))
    search.row(2, row(1, 4.5))
    search.end(1)
    search.end(2, "it broke")
    search.next()
    assert states() == {"running": 1, "finished": 0, "stopped": 1, "failed": 1, "planned": 1}
    assert told["d3ke_tune_epochs_total", "search", "sequence"] == 3
    assert told["d3ke_tune_best_error", "search", "sequence", "mae_all_deg"] == 4.0


def test_a_search_that_goes_on_knows_the_trials_before(tmp_path, told) -> None:
    folder = tmp_path / "search" / "sequence"
    before = make_search(folder, trials=3)
    before.next()
    before.row(1, row(1, 3.0))
    before.end(1)
    told.clear()
    make_search(folder, trials=3).next()
    assert told["d3ke_tune_trials", "search", "sequence", "stopped"] == 1
    assert told["d3ke_tune_trials", "search", "sequence", "planned"] == 1
    assert told["d3ke_tune_best_error", "search", "sequence", "mae_all_deg"] == 3.0
