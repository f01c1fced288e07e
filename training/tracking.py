"""Runs and model versions in MLflow, for data scientists. The ledger, not MLflow, decides what serves.

MLflow takes about eight seconds to import and open its database, so a training run uses a process of its own for it,
which starts up while the search runs (`Tracker`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lineage.errors import UnavailableError
from lineage.settings import Settings

ALIASES = ("champion", "challenger", "previous")
RELEASE_TAG = "plimsoll.release"
_OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ENABLE_ASYNC_LOGGING": "false"}


class Tracker:
    """A process that holds MLflow open. Use as a context manager; every call waits for its answer.

    Raises (every call):
        UnavailableError: MLflow failed; the message is its own.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> Self:
        environment = os.environ | _OFF | {"PLIMSOLL_HOME": str(self._settings.root)}
        command = ["nice", "-n", "5", sys.executable, "-m", "training.tracking"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()

    def log_run(
        self,
        model: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        folder: Path,
    ) -> str:
        """Record a finished run with the bundle as its artefact; the run id."""
        run = {"model": model, "params": dict(params), "metrics": dict(metrics), "tags": dict(tags)}
        return str(self._call("log_run", **run, folder=str(folder)))

    def register(self, model: str, run_id: str, release: str, digest: str) -> str:
        """Make a model version of a run, tagged with its release and aliased `challenger`; the version."""
        return str(self._call("register", model=model, run_id=run_id, release=release, digest=digest))

    def _call(self, call: str, **arguments: Any) -> Any:
        sink, source = self._process.stdin, self._process.stdout
        try:
            if sink is None or source is None:
                raise BrokenPipeError
            sink.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
            sink.flush()
            line = source.readline()
            answer = json.loads(line)
        except (BrokenPipeError, ValueError) as error:
            self._process.kill()
            _, errors = self._process.communicate()
            raise UnavailableError(f"MLflow stopped: {errors.strip()[-500:] or 'no reason given'}") from error
        if "error" in answer:
            raise UnavailableError(f"MLflow refused {call}: {answer['error']}")
        return answer["answer"]


class Store:
    """MLflow's database and artefact folder, opened in this process."""

    def __init__(self, settings: Settings) -> None:
        os.environ.update(_OFF)
        settings.mlflow.mkdir(parents=True, exist_ok=True)
        from mlflow.tracking import MlflowClient

        self._artefacts = settings.mlflow / "artifacts"
        self._client = MlflowClient(settings.mlflow_uri)
        self._client.search_experiments(max_results=1)  # opens the database, and creates it the first time

    def log_run(
        self, model: str, params: dict[str, Any], metrics: dict[str, float], tags: dict[str, str], folder: str
    ) -> str:
        """See `Tracker.log_run`."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        run = self._client.create_run(self._experiment(model), tags={"mlflow.source.name": "training.pipeline"})
        run_id = str(run.info.run_id)
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self._client.log_artifacts(run_id, folder, "bundle")
        self._client.set_terminated(run_id)
        return run_id

    def register(self, model: str, run_id: str, release: str, digest: str) -> str:
        """See `Tracker.register`. The bundle is registered without loading it."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self._client.get_run(run_id).info.artifact_uri}/bundle"
        tags = {RELEASE_TAG: release, "plimsoll.digest": digest}
        version = str(self._client.create_model_version(model, source, run_id, tags=tags).version)
        self._client.set_registered_model_alias(model, "challenger", version)
        return version

    def align(self, model: str, wanted: Mapping[str, str | None]) -> dict[str, str | None]:
        """Point each alias at the version of its release, or remove it; returns what each pointed at before."""
        versions = {
            one.tags.get(RELEASE_TAG): str(one.version)
            for one in self._client.search_model_versions(f"name = '{model}'", max_results=1000)
        }
        found = self._client.get_registered_model(model).aliases
        by_version = {version: release for release, version in versions.items()}
        before = {alias: by_version.get(str(found.get(alias))) for alias in wanted}
        for alias, release in wanted.items():
            if release is None or release not in versions:
                if alias in found:
                    self._client.delete_registered_model_alias(model, alias)
            elif str(found.get(alias)) != versions[release]:
                self._client.set_registered_model_alias(model, alias, versions[release])
        return before

    def _experiment(self, model: str) -> str:
        found = self._client.get_experiment_by_name(model)
        if found is not None:
            return str(found.experiment_id)
        place = (self._artefacts / model).as_uri()
        return str(self._client.create_experiment(model, artifact_location=place))


def serve() -> None:
    """Answer one JSON line for each JSON line until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what MLflow prints goes to the log, never between the answers
    store = Store(Settings())
    from mlflow.exceptions import MlflowException

    for line in sys.stdin:
        request = json.loads(line)
        calls: dict[str, Any] = {"log_run": store.log_run, "register": store.register}
        try:
            answer: dict[str, Any] = {"answer": calls[request["call"]](**request["arguments"])}
        except (MlflowException, OSError) as error:
            answer = {"error": str(error)}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    serve()
