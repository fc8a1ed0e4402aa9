"""Evaluate a model on held-out subjects of a prepared data set.

python jobs/evaluate.py --data DATA --model RUN/bundle --output REPORT
"""

from __future__ import annotations

import sys

import _bootstrap  # noqa: F401  (puts the packages on the path)

from d3ke_platform import cli, runtime
from d3ke_platform.evaluation.evaluate import Evaluation
from d3ke_platform.evaluation.settings import EvaluateSettings, EvaluationSummary


def main(settings: EvaluateSettings) -> EvaluationSummary:
    """Evaluate on the local machine or on the cluster that the job runs on."""
    evaluation = Evaluation(settings)
    with runtime.connect():
        return evaluation.run()


if __name__ == "__main__":
    sys.exit(cli.run_job(main, EvaluateSettings, job="evaluate"))
