"""Run everything on the embedded data set, then show what was measured.

python jobs/demo.py [--output runs/demo] [--quick] [--pose-model pose_landmarker_heavy.task]
"""

from __future__ import annotations

import sys

import _bootstrap  # noqa: F401  (puts the packages on the path)
from rich.console import Console
from rich.table import Table

from d3ke_platform import cli
from d3ke_platform.demo import Demo, DemoSettings, DemoSummary

_COLORS = {"pass": "green", "falls short": "red", "not measured": "yellow"}  # nosec


def show(summary: DemoSummary) -> None:
    """Print the table of requirements and where the report is."""
    table = Table(title="What was measured", title_justify="left")
    table.add_column("requirement", overflow="fold")
    for name in ("limit", "measured"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("note", overflow="fold", style="dim")
    for gate in summary.gates:
        color = _COLORS[gate.status]
        result = f"[{color}]{gate.status}[/{color}]"
        table.add_row(gate.name, gate.requirement, gate.value, result, gate.note)
    console = Console(stderr=True)
    console.print(table)
    console.print(f"Report: {summary.report}", soft_wrap=True)


def main(settings: DemoSettings) -> DemoSummary:
    """Run the demo and show what it measured."""
    summary = Demo(settings).run()
    show(summary)
    return summary


if __name__ == "__main__":
    sys.exit(cli.run_job(main, DemoSettings, job="demo"))
