"""Score an archive of videos: joint angles, body scales and markers of every frame.

python jobs/score.py --archive DIR|GLOB|VIDEO|MANIFEST --model BUNDLE --output SCORES
"""

from __future__ import annotations

import sys

import _bootstrap  # noqa: F401  (puts the packages on the path)

from d3ke_platform import cli, runtime
from d3ke_platform.pipelines.score import ScoreSettings, ScoreSummary, score


def main(settings: ScoreSettings) -> ScoreSummary:
    """Score on the local machine or on the cluster that the job runs on."""
    with runtime.connect():
        return score(settings)


if __name__ == "__main__":
    sys.exit(cli.run_job(main, ScoreSettings, job="score"))
