"""Write the boards' JSON: `python -m dashboards.build` after a change; a test compares."""

from __future__ import annotations

from pathlib import Path

from dashboards.boards_cluster import CLUSTER
from dashboards.boards_stages import PREPARE, SCORE
from dashboards.boards_training import TRAIN, TUNE
from dashboards.grafana import Board

FOLDER = Path(__file__).parent / "boards"
BOARDS: tuple[Board, ...] = (CLUSTER, PREPARE, TRAIN, TUNE, SCORE)


def path(board: Board) -> Path:
    """File of a board."""
    return FOLDER / f"{board.name}.json"


def main() -> None:
    """Write all boards."""
    for board in BOARDS:
        path(board).write_text(board.text(), encoding="utf-8")


if __name__ == "__main__":
    main()
