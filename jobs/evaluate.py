"""Evaluate a model on held-out subjects of a prepared data set.

python jobs/evaluate.py --data DATA --model RUN/bundle --output REPORT
"""

import _bootstrap  # noqa: F401  first: makes the packages importable

from d3ke_platform import cli, runtime
from d3ke_platform.evaluation.evaluate import evaluate
from d3ke_platform.evaluation.settings import EvaluateSettings, EvaluationSummary


def main(settings: EvaluateSettings) -> EvaluationSummary:
    with runtime.connect():
        return evaluate(settings)


if __name__ == "__main__":
    raise SystemExit(cli.run_job(main, EvaluateSettings, job="evaluate"))
