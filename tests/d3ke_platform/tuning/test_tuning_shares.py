"""How trials share a cluster, and what finds no room in it."""

from __future__ import annotations

import pytest
import ray
from tuning_cases import tune_settings

from d3ke.errors import InvalidInputError
from d3ke_platform.tuning.shares import share_cluster, shares


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        # A laptop with two cores counts four CPUs: two trials, a core each.
        ({"cpus": 4, "gpus": 0, "workers": 1}, (2, 1.0, 0.0, 1, 0)),
        ({"cpus": 4, "gpus": 0, "workers": 1, "concurrent": 1}, (1, 1.0, 0.0, 2, 0)),
        ({"cpus": 4, "gpus": 0, "workers": 1, "concurrent": 4}, (4, 0.5, 0.0, 1, 0)),
        ({"cpus": 4, "gpus": 0, "workers": 2}, (1, 0.01, 0.0, 1, 2)),
        ({"cpus": 18, "gpus": 2, "workers": 1, "trials_per_gpu": 2}, (4, 1.0, 0.5, 1, 0)),
        ({"cpus": 34, "gpus": 8, "workers": 4}, (2, 0.01, 0.0, 1, 4)),
        ({"cpus": 34, "gpus": 4, "workers": 4}, (1, 0.01, 0.0, 1, 4)),
        ({"cpus": 1, "gpus": 0, "workers": 1}, (1, 1.0, 0.0, 1, 0)),
    ],
)
def test_shares_of_a_cluster(cluster, expected):
    share = shares(**cluster)
    found = (share.concurrent, share.cpus, share.gpus, share.threads, share.resources.workers)
    assert found == expected
    reserved = share.concurrent * max(share.cpus, share.resources.workers * share.resources.cpus)
    assert reserved <= max(1, cluster["cpus"] - 2) or share.resources.workers == 0
    assert share.concurrent * share.gpus <= cluster["gpus"]


@pytest.mark.parametrize(
    ("cluster", "workers", "most", "told"),
    [
        ({"cpus": 16, "gpus": 2}, 4, 2, "4 workers for 2 GPUs"),
        # What Tune itself reserves takes the room of the eighth.
        ({"cpus": 4, "gpus": 0}, 8, 7, "8 workers for 4 CPUs"),
    ],
)
def test_a_trial_that_never_finds_room_is_told_at_once(cluster, workers, most, told):
    with pytest.raises(InvalidInputError, match=f"{told}.* --trial-workers {most} or") as caught:
        shares(**cluster, workers=workers)
    assert "\n" not in str(caught.value)
    assert shares(**cluster, workers=most).concurrent == 1


def test_an_autoscaling_cluster_counts_as_large_as_it_may_grow(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setenv("D3KE_MAX_CPUS", "16")
    monkeypatch.setenv("D3KE_MAX_GPUS", "4")
    share = share_cluster(tune_settings(trial_workers=4))
    assert (share.resources.workers, share.resources.gpu) == (4, True)
    monkeypatch.setenv("D3KE_MAX_GPUS", "2")
    with pytest.raises(InvalidInputError, match="4 workers for 2 GPUs"):
        share_cluster(tune_settings(trial_workers=4))
