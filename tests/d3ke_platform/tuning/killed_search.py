"""A search of its own process, for a test to kill: python killed_search.py FOLDER TRIALS."""

from __future__ import annotations

import sys
from pathlib import Path

import ray.cloudpickle

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import toy_task
import tuning_cases

from d3ke_platform import runtime
from d3ke_platform.tuning.session import run_search
from d3ke_platform.tuning.shares import shares

# Trials do not have the tests on their path.
for module in (toy_task, tuning_cases):
    ray.cloudpickle.register_pickle_by_value(module)


def run(search, make_job, **changes):
    """Run the search in the connected session, two trials side by side."""
    options = {
        "share": shares(cpus=4, gpus=0, workers=1),
        "grace": 2,
        "reduction_factor": 3.0,
        "max_failures": 1,
    }
    run_search(search, make_job, **{**options, **changes})


def slow_job(record, **options):
    """Epochs of a third of a second, so that a kill meets trials in the middle."""
    return tuning_cases.toy_job(record, epoch_s=0.35, **options)


if __name__ == "__main__":
    with runtime.connect():
        run(tuning_cases.make_search(Path(sys.argv[1]), trials=int(sys.argv[2])), slow_job)
