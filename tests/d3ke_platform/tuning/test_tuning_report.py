"""Pareto front, importances and the page."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuning_cases import EPOCHS, landscape, make_search, row, run_alone, tune_settings

from d3ke_platform.tuning.importance import importances
from d3ke_platform.tuning.pareto import SPEED, front_of, pareto_front
from d3ke_platform.tuning.report import ReportContent, StageReport, write_report

NUMBERS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), max_size=30)


@given(points=NUMBERS)
def test_pareto_front_is_what_nothing_beats(points):
    found = pareto_front(points)
    for point, on in zip(points, found, strict=True):
        beaten = any(
            all(a <= b for a, b in zip(other, point, strict=True)) and other != point
            for other in points
        )
        assert on == (not beaten)


def test_values_that_are_missing_are_not_on_the_front():
    assert pareto_front([(1.0, np.nan), (2.0, 1.0), (3.0, 2.0)]).tolist() == [False, True, False]


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """40 trials on a made-up error, one of them failed, some stopped."""
    made = make_search(tmp_path_factory.mktemp("search"), trials=40)
    while (record := made.next()) is not None:
        if record.number == 5:
            made.end(5, 'the loss is <not> "finite"')
            continue
        error = landscape(record.parameters)
        for epoch in range(1, 3 if error > 1.5 else EPOCHS + 1):
            made.row(record.number, row(epoch, error * (1 + 1 / epoch)))
        made.end(record.number)
    return made


def test_importances_name_what_the_made_up_error_depends_on(search):
    found = importances(search.space, search.ledger.records)
    for method, shares in found.items():
        assert sum(shares.values()) == pytest.approx(1), method
    fanova = found["fANOVA"]
    matter = fanova["sequence.loss.angle"] + fanova["sequence.learning_rate"]
    assert matter > 0.6
    assert set(fanova) == set(search.space.names)


def test_no_importances_of_few_trials(tmp_path):
    search = make_search(tmp_path, trials=4)
    run_alone(search)
    assert importances(search.space, search.ledger.records) == {}


def test_the_front_of_a_search(search):
    front = front_of(search.ledger.records, (SPEED,))
    values = [record.value for record in front]
    speeds = [record.errors[SPEED] for record in front]
    assert values == sorted(values)
    assert speeds == sorted(speeds, reverse=True)
    assert front[0].number == search.outcome().best_trial


def test_the_page_tells_everything_and_fetches_nothing(search, tmp_path):
    stage = StageReport(space=search.space, ledger=search.ledger, outcome=search.outcome())
    recipe = tmp_path / "best.toml"
    content = ReportContent(
        settings=tune_settings(trials=40),
        data_hash="0123456789abcdef",
        stages=[stage],
        recipe=recipe,
        recipe_text='[train]\nx = "<y>"\n',
    )
    page = write_report(tmp_path / "report.html", content).read_text()
    assert page.count("<img ") == 3
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("<tr") >= 40 + len(search.space.names)
    assert "failed: the loss is &lt;not&gt; &#34;finite&#34;" in page
    assert "0123456789abcdef" in page
    assert "&lt;y&gt;" in page
    best = search.outcome()
    assert f"trial {best.best_trial}" in page
    assert f"{best.value:.3f}°" in page
    for name in search.space.names:
        assert f"<td>{name.removeprefix('sequence.')}</td>" in page


def test_a_page_of_one_trial(tmp_path):
    search = make_search(tmp_path / "search", trials=1)
    run_alone(search)
    stage = StageReport(space=search.space, ledger=search.ledger, outcome=search.outcome())
    content = ReportContent(
        settings=tune_settings(trials=1),
        data_hash="0",
        stages=[stage],
        recipe=tmp_path / "best.toml",
        recipe_text="",
    )
    page = write_report(tmp_path / "report.html", content).read_text()
    assert "at least 8 trials" in page
    assert page.count("<img ") == 1
