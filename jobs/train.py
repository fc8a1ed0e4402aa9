"""Train D3KE on a prepared data set: per-frame network, sequence network, model bundle.

python jobs/train.py --data DATA --output RUN [--recipe NAME]
"""

from __future__ import annotations

import sys

import _bootstrap  # noqa: F401  (puts the packages on the path)

from d3ke_platform import cli, runtime
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.training.train import TrainSummary, train


def main(settings: TrainSettings) -> TrainSummary:
    """Train on the local machine or on the cluster that the job runs on."""
    with runtime.connect():
        return train(settings)


if __name__ == "__main__":
    sys.exit(cli.run_job(main, TrainSettings, job="train"))
