"""Training jobs: each open retraining request becomes exactly one Ray job, across restarts of the controller.

The job's id is derived from the request, so submitting it again is refused by Ray instead of training twice.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from lineage.state.entities import Job, Model
from serve.intent import Intention

_STATUS = {"SUCCEEDED": "succeeded", "FAILED": "failed", "STOPPED": "stopped"}
_LINES = 12


@dataclass(frozen=True)
class JobView:
    """A job of Ray: its status by Ray's name, and the end of its log."""

    status: str
    tail: str


class JobPort(Protocol):
    """Access to Ray's jobs."""

    def find(self, job_id: str) -> JobView | None:
        """The job, or None where Ray has none of this id."""

    def submit(self, job_id: str, entrypoint: str) -> None:
        """Submit a job that runs the command `entrypoint`."""


def job_id_of(model: str, request: int) -> str:
    """Job id derived from the request, the same at every call."""
    return f"train-{model}-{request}"


def entrypoint(request: int, job: Job) -> str:
    """Shell command of the job; niced, so that training does not slow down decisions."""
    words = ["nice", "-n", "10", sys.executable, "-m", "training.pipeline", job.folder]
    words += ["--request", str(request), "--author", job.author]
    for name, value in sorted(job.options.items()):
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
    return shlex.join(words)


def step(model: Model, request: int, port: JobPort) -> list[Intention]:
    """Submit one open request, or return how its job ended."""
    job, job_id = model.jobs[str(request)], job_id_of(model.model, request)
    about: dict[str, Any] = {"request": request, "job_id": job_id}
    view = port.find(job_id)
    if job.status == "requested":
        if view is None:
            port.submit(job_id, entrypoint(request, job))
        return [Intention("JobStarted", model.model, about, about_release=False)]
    if view is None:
        ended = {"status": "failed", "message": "Ray has no such job any more: the cluster was restarted"}
    elif view.status in _STATUS:
        lines = _LINES if view.status == "FAILED" else 1  # a failure needs its traceback, a success one line
        ended = {"status": _STATUS[view.status], "message": "\n".join(view.tail.strip().splitlines()[-lines:])}
    else:
        return []
    return [Intention("JobFinished", model.model, about | ended, about_release=False)]
