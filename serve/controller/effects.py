"""Effects of the controller: golden replays through the gateway, Ray jobs, files."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import httpx
import orjson

from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.controller.replicas import ReplicaRegistry
from serve.controller.training_jobs import JobView
from serve.models.sandbox_client import process_sandbox
from serve.rollback import Replay
from validators.scoring.bundle import GOLDEN_FILE, file_of, parse_bundle
from validators.scoring.golden import replay_golden
from validators.scoring.verified_read import read_verified

_ROUNDS = 40


def golden_rows(settings: Settings, digest: str) -> list[dict[str, Any]]:
    """The golden rows of a bundle.

    Raises:
        UnavailableError: they cannot be read.
    """
    path = settings.artefacts / digest.removeprefix("sha256:") / GOLDEN_FILE
    try:
        rows: list[dict[str, Any]] = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UnavailableError(f"cannot read the golden rows of {digest[:19]}…: {error}") from error
    return rows


def golden_here(settings: Settings, digest: str) -> dict[str, Any]:
    """Verify a bundle, load it in the sandbox, then score its golden rows in this process.

    Raises:
        PlimsollError: the bytes are refused or cannot be read.
    """
    folder = settings.artefacts / digest.removeprefix("sha256:")
    files = read_verified(folder, digest, settings)
    process_sandbox().prove(digest, folder, files)
    return replay_golden(parse_bundle(folder, files), file_of(folder, files, GOLDEN_FILE)).to_dict()


async def replay_through_gateway(
    settings: Settings, registry: ReplicaRegistry, model: str, release: str, digest: str
) -> Replay:
    """Send the golden rows to the gateway until every replica has answered with the release.

    Raises:
        UnavailableError: the gateway does not answer, or a replica did not within 40 rounds.
    """
    rows = golden_rows(settings, digest)
    replay = Replay(len(rows), release)
    headers = {"Authorization": f"Bearer {settings.token('controller')}"}
    limits = httpx.Limits(max_keepalive_connections=0)  # a new connection each, so that requests spread over replicas
    async with httpx.AsyncClient(
        base_url=settings.gateway_url, headers=headers, limits=limits, timeout=5.0, trust_env=False
    ) as client:
        for turn in range(_ROUNDS):
            numbers = range(len(rows)) if not replay.complete else range(turn % 8, len(rows), 8)
            for start in range(0, len(numbers), 4):
                await asyncio.gather(*(_ask(client, model, n, rows[n], replay) for n in numbers[start : start + 4]))
                if replay.wrong or (replay.complete and set(registry.replicas()) <= replay.replicas):
                    return replay
    missing = ", ".join(set(registry.replicas()) - replay.replicas)
    raise UnavailableError(f"replicas {missing} have not answered with {release} through the gateway")


async def _ask(client: httpx.AsyncClient, model: str, number: int, row: dict[str, Any], replay: Replay) -> None:
    body = {"features": row["features"], "key": f"golden-{number}", "purpose": "verification"}
    try:
        response = await client.post(f"/decide/{model}", json=body)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise UnavailableError(f"the gateway does not answer golden row {number}: {error!r}") from error
    replay.note(number, row, response.json(), response.headers["X-Replica"])


class RayJobs:
    """Ray's job API as `serve.controller.training_jobs.JobPort`."""

    def __init__(self, settings: Settings) -> None:
        from ray.job_submission import JobSubmissionClient

        self._client = JobSubmissionClient(settings.ray_dashboard_url)

    def find(self, job_id: str) -> JobView | None:
        """The job with the end of its log, or None."""
        try:
            status = str(self._client.get_job_status(job_id).value)
        except RuntimeError as error:
            if "404" in str(error) or "does not exist" in str(error):
                return None
            raise UnavailableError(f"Ray's job API does not answer: {str(error)[:200]}") from error
        ended = status in ("SUCCEEDED", "FAILED", "STOPPED")
        return JobView(status, self._client.get_job_logs(job_id)[-4000:] if ended else "")

    def submit(self, job_id: str, entrypoint: str) -> None:
        """Submit without a runtime environment: the job uses the installed code."""
        try:
            self._client.submit_job(entrypoint=entrypoint, submission_id=job_id, entrypoint_num_cpus=0)
        except RuntimeError as error:
            if "already exists" not in str(error):
                raise UnavailableError(f"Ray refuses the job: {str(error)[:200]}") from error


def write_text_atomically(path: Path, content: bytes) -> None:
    """Replace a file atomically: a reader sees the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    draft.write_bytes(content)
    draft.replace(path)
