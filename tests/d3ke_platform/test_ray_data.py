from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import fake_stages
import pytest
import ray
from fake_stages import Fake, Twice

from d3ke.errors import InvalidInputError
from d3ke_platform import runtime
from d3ke_platform.pipelines import ray_data
from d3ke_platform.pipelines.ray_data import identity, is_reject, reject_row, run_stage
from d3ke_platform.schema import REJECTS

ray.cloudpickle.register_pickle_by_value(fake_stages)


def items(*numbers: int) -> list[dict[str, Any]]:
    return [{"item": str(number), "x": number} for number in numbers]


def test_identity_prefers_the_most_specific_name() -> None:
    assert identity({"subject": "s", "trial_id": "t", "recording_id": "r"}) == "r"
    assert identity({"subject": "s", "trial_id": "t"}) == "t"
    with pytest.raises(ValueError, match="Item without any of"):
        identity({"x": 1})


def test_reject_rows_fit_their_table() -> None:
    row = reject_row("a", "crop", "reason")
    assert is_reject(row)
    assert not is_reject({"item": "a"})
    assert REJECTS.from_rows([row]).num_rows == 1


def test_no_items_need_no_ray() -> None:
    assert list(run_stage([], Fake, arguments={"factor": 1}, name="fake")) == []


def test_actors_leave_two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "total_cpus", lambda: 10.0)
    monkeypatch.setattr(runtime, "total_gpus", lambda: 2.0)
    assert ray_data.actor_count() == 8
    assert ray_data.actor_count(cpus=3.0) == 2
    assert ray_data.actor_count(gpus=0.25) == 8
    monkeypatch.setattr(runtime, "total_cpus", lambda: 1.0)
    assert ray_data.actor_count() == 1


@pytest.mark.parametrize(
    ("lost_nodes", "passes"), [((), 2), ((1,), 2), ((1, 2), 3), ((1, 2, 3, 4, 5, 6), 4)]
)
def test_items_lost_with_their_workers_are_tried_alone_and_again_while_nodes_are_lost(
    monkeypatch: pytest.MonkeyPatch, lost_nodes: tuple[int, ...], passes: int
) -> None:
    """Item 5 never comes back; the passes in which a node is lost are given."""
    calls: list[tuple[list[int], int, int]] = []

    def results(some: list[dict[str, Any]], batch_size: int, deaths: int) -> Any:
        calls.append(([item["x"] for item in some], batch_size, deaths))
        good = 4 if len(calls) == 1 else 5
        yield from ((item["item"], [item]) for item in some if item["x"] < good)

    def nodes() -> frozenset[str]:
        return frozenset(map(str, set(range(1, 9)) - {n for n in lost_nodes if n <= len(calls)}))

    monkeypatch.setattr(runtime, "nodes_alive", nodes)
    found = list(ray_data._results_of_all(items(*range(6)), results, 3))
    assert [int(key) for key, _ in found] == [0, 1, 2, 3, 4]
    assert calls[:2] == [
        ([0, 1, 2, 3, 4, 5], 3, ray_data.WORKER_DEATHS_PER_ITEM),
        ([4, 5], 1, ray_data.WORKER_DEATHS_ALONE),
    ]
    assert len(calls) == passes


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
class TestOnRay:
    def test_bad_input_defects_and_dead_workers_are_rejects(self, tmp_path: Path) -> None:
        """Neither an actor that dies at its start nor one that dies with three items matters to
        the other items."""
        arguments = {"factor": 2, "died": str(tmp_path / "died")}
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*ray_remote_args.*")
            rows = list(
                run_stage(items(*range(9)), Fake, arguments=arguments, name="fake", batch_size=3)
            )
        assert (tmp_path / "died").exists()
        good = sorted((row["item"], row["y"]) for row in rows if not is_reject(row))
        assert good == [(str(x), 2 * x) for x in (0, 1, 2, 6, 7, 8)]
        assert {row["threads"] for row in rows if not is_reject(row)} == {"1"}
        rejects = {row["item"]: row for row in rows if is_reject(row)}
        assert rejects["3"]["reason"] == "x: is three."
        assert rejects["4"]["reason"] == "ZeroDivisionError: four"
        assert "fake_stages.py" in rejects["4"]["traceback"]
        assert "worker process died" in rejects["5"]["reason"]
        assert rejects.keys() == {"3", "4", "5"}

    def test_an_error_of_the_constructor_is_raised_once(self) -> None:
        with pytest.raises(InvalidInputError, match="factor: -1 is negative"):
            list(run_stage(items(1, 2), Fake, arguments={"factor": -1}, name="fake"))

    def test_batches_and_any_number_of_rows_per_item(self) -> None:
        rows = list(run_stage(items(*range(10)), Twice, arguments={}, name="twice", batch_size=4))
        assert sorted(row["x"] for row in rows) == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]

    def test_ray_datas_settings_are_put_back(self) -> None:
        before = ray.data.DataContext.get_current().max_errored_blocks
        list(run_stage(items(0), Twice, arguments={}, name="twice"))
        assert ray.data.DataContext.get_current().max_errored_blocks == before

    def test_connecting_again_uses_and_keeps_the_session(self) -> None:
        with runtime.connect() as session:
            assert session.is_local
            assert session.cpus >= 4
        assert ray.is_initialized()

    def test_items_with_the_same_id_are_refused(self) -> None:
        with pytest.raises(ValueError, match="same id"):
            list(run_stage(items(1, 1), Twice, arguments={}, name="twice"))
