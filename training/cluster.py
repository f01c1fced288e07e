"""The Ray cluster for trials: the one that RAY_ADDRESS names, else a local one that ends with this process."""

from __future__ import annotations

import os
from concurrent.futures import Future
from threading import Event, Thread

from lineage.errors import UnavailableError
from lineage.private_folders import make_private
from lineage.settings import Settings

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the node address becomes 127.0.0.1
    "DASHBOARD_METRIC_PORT": "0",  # a free port instead of a fixed one
    "AUTOSCALER_METRIC_PORT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def connect_early(settings: Settings) -> Future[None]:
    """Run `connect` in a thread, so that data can be read while a local Ray starts (about nine seconds).

    The thread stays alive until the process ends, because Linux ends Ray's processes with the thread that started them.
    """
    started: Future[None] = Future()

    def start_and_wait() -> None:
        try:
            connect(settings)
        except UnavailableError as error:
            started.set_exception(error)
            return
        started.set_result(None)
        Event().wait()

    Thread(target=start_and_wait, name="ray", daemon=True).start()
    return started


def connect(settings: Settings) -> None:
    """Connect to the cluster that RAY_ADDRESS names (set in every Ray job), else start a local one. Idempotent.

    A local one never joins another Ray on this host, and takes free ports, except that its agent serves HTTP on 52365
    if that is free: `ray.init` has no setting for it, and nothing here uses it.

    Raises:
        UnavailableError: Ray did not start or answer.
    """
    try:
        _connect(settings)
    except Exception as error:  # Ray raises bare Exception when a node does not start in time
        raise UnavailableError(f"Ray is not available: {error}. `plimsoll doctor` shows why") from error


def _connect(settings: Settings) -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=False, logging_level="WARNING")
        return
    make_private(settings.ray_tmp.expanduser(), "ray_tmp")
    ray.init(
        address="local",
        num_cpus=settings.ray_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="WARNING",
        object_store_memory=200 * 1024 * 1024,
        _temp_dir=str(settings.ray_sessions),
    )
