"""MLflow: one run per training, with parameters, metrics of every epoch and the model bundle."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3ke.errors import InvalidInputError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logging.getLogger(__name__)
# Limits of MLflow's REST interface.
_PARAMETER_LENGTH, _BATCH = 500, 100


def tracking_uri(folder: Path) -> str:
    """`MLFLOW_TRACKING_URI` if it is set, else a database file in `folder`.

    The path is absolute: training workers have another working directory.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.absolute()}/mlflow.db"


class RunTracker:
    """One MLflow run, written from the driver only.

    The database and the experiment are made here, before any worker exists: several processes
    that create the same SQLite file at once fail. `run_id` continues an earlier run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        experiment: str,
        name: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        run_id: str = "",
    ) -> None:
        import mlflow

        # They announce every table of a new database.
        for chatty in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._folder, self._experiment_name = folder, experiment
        uri = tracking_uri(folder)
        self._client: MlflowClient = mlflow.MlflowClient(tracking_uri=uri)
        own_files = "" if os.environ.get("MLFLOW_TRACKING_URI") else f"{folder.absolute()}/mlflow"
        try:
            experiment_id = self._experiment(experiment, own_files)
            self.run_id = run_id or self._start(experiment_id, name, parameters, tags)
            self._client.update_run(self.run_id, status="RUNNING")
        except mlflow.MlflowException as error:
            raise InvalidInputError(
                f"MLflow at {uri}", str(error), "Check MLFLOW_TRACKING_URI."
            ) from error

    def _experiment(self, name: str, artifacts: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(name, artifact_location=artifacts or None)

    def _start(
        self,
        experiment_id: str,
        name: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        from mlflow.entities import Param

        run = self._client.create_run(experiment_id, run_name=name, tags=dict(tags))
        params = [Param(key, str(value)[:_PARAMETER_LENGTH]) for key, value in parameters.items()]
        for first in range(0, len(params), _BATCH):
            self._client.log_batch(run.info.run_id, params=params[first : first + _BATCH])
        return run.info.run_id

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """Metrics of one epoch, each under `<stage>/<name>`, at step `epoch`."""
        values = {
            f"{row['stage']}/{name}": float(value)
            for name, value in row.items()
            if isinstance(value, int | float) and name not in ("epoch", "epochs")
        }
        self.log_metrics(values, step=int(row["epoch"]))

    def log_metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Finite values of a step.

        A tracking server that is away must not end a training: the loss is a warning.
        """
        from mlflow import MlflowException
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, step) for name, value in values.items() if math.isfinite(value)
        ]
        try:
            self._client.log_batch(self.run_id, metrics=metrics)
        except MlflowException as error:
            _LOG.warning("MLflow did not take the metrics of step %d: %s", step, error)

    def child(
        self,
        name: str,
        *,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        run_id: str = "",
    ) -> RunTracker:
        """A run that MLflow shows below this one; `run_id` continues an earlier one."""
        return RunTracker(
            self._folder,
            experiment=self._experiment_name,
            name=name,
            parameters=parameters,
            tags={**tags, "mlflow.parentRunId": self.run_id},
            run_id=run_id,
        )

    def tag(self, name: str, value: str) -> None:
        """Mark the run."""
        self._client.set_tag(self.run_id, name, value)

    def log_file(self, path: Path) -> None:
        """Keep a copy of a file as an artifact."""
        self._client.log_artifact(self.run_id, str(path))

    def log_picture(self, name: str, path: Path, *, step: int) -> None:
        """An image that MLflow shows beside the metrics of its step."""
        from mlflow import MlflowException
        from PIL import Image

        try:
            with Image.open(path) as image:
                self._client.log_image(self.run_id, image, key=name, step=step)
        except (MlflowException, OSError) as error:
            _LOG.warning("MLflow did not take the picture %s: %s", path, error)

    def log_folder(self, folder: Path, name: str) -> None:
        """Keep a copy of `folder` as the artifact `name`."""
        self._client.log_artifacts(self.run_id, str(folder), name)

    def finish(self, *, succeeded: bool) -> None:
        """Close the run."""
        self._client.set_terminated(self.run_id, "FINISHED" if succeeded else "FAILED")


def git_commit(folder: Path) -> str:
    """Commit of the source that `folder` lies in, with "-dirty" for changed files; "" if none."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
