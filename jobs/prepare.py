"""Prepare a data set: OpenSim labels and crops of recordings.

python jobs/prepare.py --output DATA [--source synthetic] [--recipe NAME]
python jobs/prepare.py --source bmlmovi --input DIR --check
"""

from __future__ import annotations

import sys

import _bootstrap  # noqa: F401  (puts the packages on the path)

from d3ke_platform import cli, runtime
from d3ke_platform.pipelines.prepare import PrepareSummary, prepare
from d3ke_platform.pipelines.prepare_check import check_input
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.sources import InputCheck


def main(settings: PrepareSettings) -> PrepareSummary | InputCheck:
    """Prepare on the local machine or on the cluster that the job runs on, or only check."""
    if settings.check:
        return check_input(settings)
    with runtime.connect():
        return prepare(settings)


if __name__ == "__main__":
    sys.exit(cli.run_job(main, PrepareSettings, job="prepare"))
