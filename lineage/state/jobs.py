"""Training runs in the fold: started, ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lineage.state.entities import Model

Record = dict[str, Any]


def job_started(model: Model, record: Record) -> None:
    """Mark a requested run as running."""
    request, job_id = str(record["data"]["request"]), record["data"]["job_id"]
    _move_job(model, request, status="running", job_id=job_id, started_at=record["at"])


def _move_job(model: Model, request: str, **changes: Any) -> None:
    model.jobs[request] = job = replace(model.jobs[request], **changes)
    if model.last_job is not None and model.last_job.request == job.request:
        model.last_job = job


def job_finished(model: Model, record: Record) -> None:
    """Mark a run as ended, and its request as answered."""
    data = record["data"]
    ended = {"status": data["status"], "message": data["message"], "finished_at": record["at"]}
    _move_job(model, str(data["request"]), **ended)
    if data["request"] in model.requests:
        model.requests.remove(data["request"])
