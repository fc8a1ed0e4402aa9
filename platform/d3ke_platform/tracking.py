"""MLflow: one run per training, with parameters, metrics of every epoch and the model bundle."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from d3ke.errors import InvalidInputError
from d3ke_platform import telemetry

if TYPE_CHECKING:
    from mlflow import MlflowClient, MlflowException
    from mlflow.entities import Metric

_LOG = logging.getLogger(__name__)
# Limits of MLflow's REST interface.
_PARAMETER_LENGTH, _BATCH, _METRICS = 500, 100, 1000
# Metrics kept for a server that is away: those of some thousand epochs.
_MOST_UNSENT = 100_000
_CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def tracking_uri(folder: Path) -> str:
    """`MLFLOW_TRACKING_URI` if it is set, else a database file in `folder`.

    The path is absolute: training workers have another working directory. A server that asks who
    one is gets the name and password from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
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

        # MLflow's own 7 retries, each twice as late as the one before, hold a job for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        # They announce every table of a new database.
        for chatty in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._folder, self._experiment_name = folder, experiment
        self._unsent: list[Metric] = []
        uri = tracking_uri(folder)
        self._client: MlflowClient = mlflow.MlflowClient(tracking_uri=uri)
        own_files = "" if os.environ.get("MLFLOW_TRACKING_URI") else f"{folder.absolute()}/mlflow"
        try:
            experiment_id = self._experiment(experiment, own_files)
            self.run_id = run_id or self._start(experiment_id, name, parameters, tags)
            self._client.update_run(self.run_id, status="RUNNING")
        except mlflow.MlflowException as error:
            raise _refused(uri, error) from error

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

        A tracking server that is away must not end a training: it is a warning, and the values
        are sent with later ones.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._unsent += [
            Metric(name, value, now, step) for name, value in values.items() if math.isfinite(value)
        ]
        self._written(f"the metrics of step {step}", self._send)
        del self._unsent[:-_MOST_UNSENT]

    def _send(self) -> None:
        while self._unsent:
            self._client.log_batch(self.run_id, metrics=self._unsent[:_METRICS])
            del self._unsent[:_METRICS]

    def _written(self, what: str, write: Callable[[], Any]) -> None:
        """Write; what the server does not take is a warning."""
        from mlflow import MlflowException

        try:
            write()
        except (MlflowException, OSError) as error:
            telemetry.count("d3ke_tracking_failures_total")
            _LOG.warning("MLflow did not take %s: %s", what, _short(error))

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
        self._written(f"the tag {name}", lambda: self._client.set_tag(self.run_id, name, value))

    def log_file(self, path: Path) -> None:
        """Keep a copy of a file as an artifact."""
        self._written(str(path), lambda: self._client.log_artifact(self.run_id, str(path)))

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
        self._written(
            str(folder), lambda: self._client.log_artifacts(self.run_id, str(folder), name)
        )

    def finish(self, *, succeeded: bool) -> None:
        """Close the run."""
        if self._unsent:
            self._written("metrics of earlier steps", self._send)
        status = "FINISHED" if succeeded else "FAILED"
        self._written(
            "the end of the run", lambda: self._client.set_terminated(self.run_id, status)
        )


def _refused(uri: str, error: MlflowException) -> InvalidInputError:
    """Why a run cannot be started, and what to do about it."""
    where = f"MLflow at {_without_password(uri)}"
    if error.error_code == "UNAUTHENTICATED" or "error code 401" in str(error):
        given = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
        who = f"does not accept the password of user {given!r}" if given else "asks who you are"
        return InvalidInputError(where, who, f"Set {_CREDENTIALS} in the environment.")
    if error.error_code == "PERMISSION_DENIED" or "error code 403" in str(error):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
        reason = f"user {user!r} may not write here"
        return InvalidInputError(
            where, reason, "Ask for EDIT permission on the experiment, or choose --experiment."
        )
    if "Max retries exceeded" in str(error):
        reason = "does not answer"
        return InvalidInputError(where, reason, "Is the server up? Check MLFLOW_TRACKING_URI.")
    return InvalidInputError(where, _short(error), "Check MLFLOW_TRACKING_URI.")


def _short(error: Exception) -> str:
    """The error as one line that fits a terminal."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"


def _without_password(uri: str) -> str:
    """The address without the name and password that may stand in it."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def git_commit(folder: Path) -> str:
    """Commit of the source that `folder` lies in, with "-dirty" for changed files; "" if none."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
