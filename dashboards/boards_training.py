"""Boards of jobs that train: train and tune."""

from __future__ import annotations

from dashboards.boards_cluster import GPU_USE, SESSION
from dashboards.grafana import Board, Panel, Query, Variable
from dashboards.promql import quantile, rate, ratio, series, total

RUN = 'run=~"$run"'
SEARCH = 'search=~"$search"'
BY = "run, stage"
NAME = "{{run}} {{stage}}"
WITH_RAY_TRAIN = "a training under Ray Train (in-process ones and trials of one worker have none)"


def value(metric: str, *filters: str, by: str = BY) -> str:
    """A gauge that one process of a run sets."""
    return f"max by ({by}) ({series(metric, *filters)})"


def validation(measure: str) -> str:
    """Validation errors of the chosen runs; `measure` is a pattern."""
    return value(
        "ray_d3ke_train_validation_error", RUN, f'measure=~"{measure}"', by=f"{BY}, measure"
    )


STEPS = "ray_d3ke_train_step_seconds_total"
WAIT_SHARE = ratio(rate(STEPS, RUN, 'part="wait"', by=BY), rate(STEPS, RUN, by=BY))

TRAIN = Board(
    name="train",
    title="D3KE train",
    help="jobs/train.py, and the trials of a search: how far, how good, how fast.",
    variables=(SESSION, Variable("run", "Run or trial", "ray_d3ke_train_epochs", "run")),
    panels=(
        Panel(
            "Epochs done",
            "Share of the epochs that are over.",
            "percentunit",
            (
                Query(
                    ratio(
                        value("ray_d3ke_train_epoch", RUN),
                        value("ray_d3ke_train_epochs", RUN),
                    ),
                    NAME,
                ),
            ),
            kind="stat",
            width=6,
            height=5,
            maximum=1.0,
        ),
        Panel(
            "Workers in the loop",
            "Workers that train now; 0 when a run is over or its workers are being restarted.",
            "none",
            (Query(total("ray_d3ke_train_workers", RUN, by=BY), NAME),),
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            "Samples per second",
            "Over all workers, validation and checkpoints included.",
            "suffix: /s",
            (Query(rate("ray_d3ke_train_samples_total", RUN, by=BY), NAME),),
            kind="stat",
            width=6,
            height=5,
            decimals=1,
        ),
        Panel(
            "Waiting for data",
            "Share of a step's time. Above 5 % the data come too slowly: more CPUs per GPU, or "
            "smaller crops.",
            "percentunit",
            (Query(WAIT_SHARE, NAME),),
            kind="stat",
            width=6,
            height=5,
            decimals=1,
            maximum=1.0,
        ),
        Panel(
            "Training loss",
            "Mean of each term over the last epoch, weighted as it is minimised.",
            "none",
            (Query(value("ray_d3ke_train_loss", RUN, by=f"{BY}, term"), f"{NAME} {{{{term}}}}"),),
        ),
        Panel(
            "Validation: joint angles",
            "Mean absolute angle error on the validation subjects: all predicted coordinates, the "
            "paper's main ones, the legs.",
            "degree",
            (Query(validation("mae_.*_deg"), f"{NAME} {{{{measure}}}}"),),
            decimals=2,
        ),
        Panel(
            "Validation: bony landmarks",
            "Mean position error of the bony landmarks relative to the pelvis (MPBLPE).",
            "lengthmm",
            (Query(validation("mpblpe_mm"), NAME),),
            decimals=1,
        ),
        Panel(
            "Validation: angular speed",
            "Mean speed of the estimated angles beside that of the labels; far above the labels' "
            "is jitter.",
            "suffix: deg/s",
            (Query(validation("mv_main_.*deg_s"), f"{NAME} {{{{measure}}}}"),),
            decimals=1,
        ),
        Panel(
            "Learning rate",
            "Of the last step of each epoch.",
            "sci",
            (Query(value("ray_d3ke_train_learning_rate", RUN), NAME),),
        ),
        Panel(
            "Steps per second",
            "Optimiser steps of one worker.",
            "suffix: /s",
            (
                Query(
                    ratio(
                        rate("ray_d3ke_train_steps_total", RUN, by=BY),
                        total("ray_d3ke_train_workers", RUN, by=BY),
                    ),
                    NAME,
                ),
            ),
            decimals=2,
        ),
        Panel(
            "Seconds per step",
            "Median and 95th percentile, waiting for data included. A tail far above the median: "
            "one worker's data or disk is slow.",
            "s",
            (
                Query(quantile(0.5, "ray_d3ke_train_step_seconds", RUN, by=BY), f"{NAME} median"),
                Query(quantile(0.95, "ray_d3ke_train_step_seconds", RUN, by=BY), f"{NAME} 95 %"),
            ),
        ),
        Panel(
            "Where a step's time goes",
            "Seconds per second and worker: waiting for data, computing. The rest is validation, "
            "checkpoints and start-up.",
            "percentunit",
            (
                Query(
                    f"{rate(STEPS, RUN, by='stage, device, part')} / on (stage) group_left () "
                    f"({total('ray_d3ke_train_workers', RUN, by='stage')} > 0)",
                    "{{stage}} {{part}} ({{device}})",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Where an epoch's time goes",
            "Seconds per second of the first worker: training, validation, checkpoint.",
            "percentunit",
            (
                Query(
                    rate("ray_d3ke_train_epoch_seconds_total", RUN, by=f"{BY}, part"),
                    f"{NAME} {{{{part}}}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Blocked in report",
            "Seconds that workers have waited for Ray to take a checkpoint, in all.",
            "s",
            (
                Query(
                    total("ray_train_report_total_blocked_time_s", by="ray_train_run_name"),
                    "{{ray_train_run_name}}",
                ),
            ),
            empty_without=WITH_RAY_TRAIN,
        ),
        GPU_USE,
    ),
)

TRIALS = value("ray_d3ke_tune_trials", SEARCH, by="search, stage, state")

TUNE = Board(
    name="tune",
    title="D3KE tune",
    help="jobs/tune.py: a search for settings. Single trials are runs of the board D3KE train.",
    variables=(
        SESSION,
        Variable("search", "Search", "ray_d3ke_tune_trials", "search"),
        Variable("run", "Trial", "ray_d3ke_train_epochs", "run"),
    ),
    panels=(
        Panel(
            "Trials now",
            "By state. Stopped: ended early by ASHA because others do better; that is meant.",
            "none",
            (Query(TRIALS, "{{stage}} {{state}}"),),
            kind="stat",
            width=12,
            height=5,
        ),
        Panel(
            "Lowest error so far",
            "Validation error of the best trial, in the unit that the measure's name ends with.",
            "none",
            (
                Query(
                    value("ray_d3ke_tune_best_error", SEARCH, by="search, stage, measure"),
                    "{{search}} {{stage}} {{measure}}",
                ),
            ),
            kind="stat",
            width=12,
            height=5,
            decimals=3,
        ),
        Panel(
            "Trials over time",
            "Many failed ones: the space holds settings that cannot be trained; the trial's "
            "reason is in its JSON file.",
            "none",
            (Query(TRIALS, "{{stage}} {{state}}"),),
            stacked=True,
        ),
        Panel(
            "Lowest error over time",
            "When the line has been level for a third of the search, more trials will hardly help.",
            "none",
            (
                Query(
                    value("ray_d3ke_tune_best_error", SEARCH, by="search, stage, measure"),
                    "{{search}} {{stage}} {{measure}}",
                ),
            ),
            decimals=3,
        ),
        Panel(
            "Epochs per minute",
            "Over all trials.",
            "suffix: /min",
            (
                Query(
                    f"{rate('ray_d3ke_tune_epochs_total', SEARCH, by='search, stage')} * 60",
                    "{{search}} {{stage}}",
                ),
            ),
        ),
        Panel(
            "Joint angles of running trials",
            "Mean absolute angle error of the main coordinates on the validation subjects.",
            "degree",
            (Query(validation("mae_main_deg"), NAME),),
            decimals=2,
        ),
        Panel(
            "Waiting for data",
            "Share of a step's time, by trial. Trials share the cores: high values on all of them "
            "mean that too many run side by side.",
            "percentunit",
            (Query(WAIT_SHARE, NAME),),
            maximum=1.0,
        ),
        GPU_USE,
    ),
)
