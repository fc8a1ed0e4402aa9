"""Boards of jobs that run stages over items: prepare and score."""

from __future__ import annotations

from dashboards.boards_cluster import GPU_USE, SESSION
from dashboards.grafana import Board, Panel, Query
from dashboards.promql import quantile, rate, ratio, series, total

FIRST_REJECT = "a rejected item"


def stage_panels(stages: str, items: str, framed: str) -> tuple[Panel, ...]:
    """Panels that every job of stages has.

    Args:
        stages: pattern of the stages' names.
        items: what an item is, stage by stage, for the reader.
        framed: pattern of the stages that count frames.
    """
    chosen = f'stage=~"{stages}"'
    waiting = f"max by (stage) ({series('ray_d3ke_stage_items_waiting', chosen)})"
    actors = f"max by (stage) ({series('ray_d3ke_stage_actors', chosen)})"
    over = rate("ray_d3ke_stage_items_total", chosen, by="stage")
    return (
        Panel(
            "Items left",
            f"Not over yet, by stage; {items}.",
            "none",
            (Query(waiting, "{{stage}}"),),
            kind="stat",
            width=8,
            height=5,
        ),
        Panel(
            "Time left",
            "Items left over the present rate, by stage; stages that have not begun count nothing.",
            "s",
            (Query(f"{waiting} / on (stage) ({over} > 0)", "{{stage}}"),),
            kind="stat",
            width=8,
            height=5,
            decimals=1,
        ),
        Panel(
            "Share rejected",
            "Of all items that are over in this Ray session, by stage. Rejects are rows in "
            "rejects/ with their reason.",
            "percentunit",
            (
                Query(
                    ratio(
                        total(
                            "ray_d3ke_stage_items_total", chosen, 'status="rejected"', by="stage"
                        ),
                        total("ray_d3ke_stage_items_total", chosen, by="stage"),
                    )
                    + f" or 0 * {total('ray_d3ke_stage_items_total', chosen, by='stage')}",
                    "{{stage}}",
                ),
            ),
            kind="stat",
            width=8,
            height=5,
            decimals=1,
        ),
        Panel(
            "Items per minute",
            "Items that are over, rejected and skipped ones included, by stage.",
            "suffix: /min",
            (Query(f"{over} * 60", "{{stage}}"),),
        ),
        Panel(
            "Frames per second",
            "Frames that a stage has worked on; counted when their item is over, so long items "
            "show as steps.",
            "suffix: frames/s",
            (
                Query(
                    rate("ray_d3ke_stage_frames_total", f'stage=~"{framed}"', by="stage"),
                    "{{stage}}",
                ),
            ),
        ),
        Panel(
            "Items left over time",
            "A line that stays level while a job runs is a stalled stage.",
            "none",
            (Query(waiting, "{{stage}}"),),
        ),
        Panel(
            "Actors at work",
            "Mean number of actors that work on an item, and how many the stage asked for. Well "
            "below that number: items arrive too slowly or the last ones are running.",
            "none",
            (
                Query(
                    rate("ray_d3ke_stage_seconds_total", chosen, by="stage"), "{{stage}} at work"
                ),
                Query(actors, "{{stage}} asked for"),
            ),
        ),
        Panel(
            "Seconds per item",
            "Median and 90th percentile. Counted when an item is over.",
            "s",
            (
                Query(
                    quantile(0.5, "ray_d3ke_stage_item_seconds", chosen, by="stage"),
                    "{{stage}} median",
                ),
                Query(
                    quantile(0.9, "ray_d3ke_stage_item_seconds", chosen, by="stage"),
                    "{{stage}} 90 %",
                ),
            ),
        ),
        Panel(
            "Rejects by reason",
            "Number in this Ray session, by stage and kind of reason.",
            "none",
            (
                Query(
                    total("ray_d3ke_stage_rejects_total", chosen, by="stage, reason"),
                    "{{stage}}: {{reason}}",
                ),
            ),
            kind="bargauge",
            empty_without=FIRST_REJECT,
        ),
    )


PREPARE = Board(
    name="prepare",
    title="D3KE prepare",
    help="jobs/prepare.py: recordings to labels and crops.",
    variables=(SESSION,),
    panels=stage_panels(
        "make|scale|label|crop",
        "units of the source (make), subjects (scale), trials (label), recordings (crop)",
        "label|crop",
    ),
)

SCORE = Board(
    name="score",
    title="D3KE score",
    help="jobs/score.py: an archive of videos to joint angles.",
    variables=(SESSION,),
    panels=(
        *stage_panels("estimate|finish", "videos (finish) or parts of them", "estimate"),
        Panel(
            "Where the time goes",
            "Share of the actors' time by step: decode, detect, crop, network, refine, export.",
            "percentunit",
            (
                Query(
                    rate("ray_d3ke_stage_step_seconds_total", 'stage=~"estimate|finish"', by="step")
                    + " / on () group_left () ("
                    + rate("ray_d3ke_stage_step_seconds_total", 'stage=~"estimate|finish"')
                    + " > 0)",
                    "{{step}}",
                ),
            ),
            stacked=True,
            maximum=1.0,
        ),
        Panel(
            "Network busy",
            "Share of time in which a process with a network keeps its device at work, mean over "
            "processes. On GPUs, below 50 % the CPUs that decode are too few.",
            "percentunit",
            (
                Query(
                    ratio(
                        rate("ray_d3ke_device_busy_seconds_total", by="stage, device"),
                        total("ray_d3ke_device_processes", by="stage, device"),
                    ),
                    "{{stage}} on {{device}}",
                ),
            ),
            maximum=1.0,
        ),
        GPU_USE,
    ),
)
