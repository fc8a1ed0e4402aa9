"""Search for the settings that train the best model.

python jobs/tune.py --data DATA --output RUN --trials N [--recipe NAME]
"""

from __future__ import annotations

import sys

import _bootstrap  # noqa: F401  (puts the packages on the path)
from rich.console import Console
from rich.table import Table

from d3ke_platform import cli, runtime
from d3ke_platform.tuning.settings import TuneSettings, TuneSummary
from d3ke_platform.tuning.tune import Tuning


def show(summary: TuneSummary) -> None:
    """Print what was found and where it is."""
    table = Table(title="Best settings, beside the recipe's own and the paper's loss weights")
    for name in ("network", "error", "best [deg]", "recipe", "paper", "MPBLPE [mm]", "MV [deg/s]"):
        table.add_column(name, justify="right")
    for stage in summary.stages:
        errors = (stage.value, stage.recipe_value, stage.paper_value)
        numbers = (*errors, stage.mpblpe_mm, stage.mv_deg_s)
        cells = ["-" if number is None else f"{number:.3f}" for number in numbers]
        table.add_row(stage.stage, stage.metric, *cells)
    console = Console(stderr=True)
    console.print(table)
    console.print(f"Recipe: {summary.recipe}\nReport: {summary.report}", soft_wrap=True)


def main(settings: TuneSettings) -> TuneSummary:
    """Search on the local machine or on the cluster that the job runs on."""
    with runtime.connect():
        summary = Tuning(settings).run()
    show(summary)
    return summary


if __name__ == "__main__":
    sys.exit(cli.run_job(main, TuneSettings, job="tune", beneath=("train",)))
