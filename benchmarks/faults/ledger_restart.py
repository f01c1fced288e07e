"""SIGKILL of the ledger service, many times: seconds until it answers, and until a kill switch pulled then is recorded.

Each round kills the process that serves and at once begins to ask it, as a person does who wants to stop all models: a
request without a kept connection, repeated after 20 ms. Afterwards the switch is released by two people.
`PLIMSOLL_KILLS` sets the number of rounds, `PLIMSOLL_PAUSE` the seconds between an answer and the next kill; without a
pause the next spare process is still starting, so that some rounds measure a cold start.
"""

from __future__ import annotations

import os
import statistics
import time
import uuid
from collections.abc import Iterator

import httpx

from benchmarks.faults.serving_stage import Bank, opened
from console.terminal import processes

KILLS, PAUSE = 100, 4.0
_PATIENCE, _POLL = 60.0, 0.02


def run(kills: int | None = None, pause: float | None = None) -> Iterator[str]:
    """Median, 95th percentile and worst of both times."""
    kills = int(os.environ.get("PLIMSOLL_KILLS", KILLS)) if kills is None else kills
    pause = float(os.environ.get("PLIMSOLL_PAUSE", PAUSE)) if pause is None else pause
    answers: list[float] = []
    stops: list[float] = []
    with opened(1, 1, 1) as bank:
        person = {"name": "operator", "password": bank.passwords["operator"]}
        token = httpx.post(f"{bank.settings.ledger_url}/v1/session", json=person, trust_env=False).json()["token"]
        for number in range(kills):
            time.sleep(pause)
            answered, stopped = _strike(bank, token, number)
            answers.append(answered)
            stops.append(stopped)
            _let_go(bank)
            if (number + 1) % 10 == 0:
                yield f"({number + 1} kills, worst until a stop is recorded {max(stops):.2f} s)"
    yield _line("answers again", answers)
    yield _line("records a kill switch", stops)


def _strike(bank: Bank, token: str, number: int) -> tuple[float, float]:
    """Kill the ledger service; seconds until it answers, and until it has recorded a kill switch."""
    process = processes.recorded(bank.settings)["ledger"]
    with httpx.Client(base_url=bank.settings.ledger_url, trust_env=False, timeout=5.0) as http:
        began = time.monotonic()
        process.kill()
        answered = _until_answered(http, "GET", "/healthz", began)
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid.uuid4().hex}
        body = {"reason": f"round {number}", "answer": "baseline"}
        return answered, _until_answered(http, "POST", "/v1/kill", began, headers=headers, json=body)


def _until_answered(http: httpx.Client, method: str, path: str, began: float, **content: object) -> float:
    while time.monotonic() - began < _PATIENCE:
        try:
            http.request(method, path, **content).raise_for_status()  # type: ignore[arg-type]
            return time.monotonic() - began
        except httpx.HTTPError:
            time.sleep(_POLL)
    return _PATIENCE


def _let_go(bank: Bank) -> None:
    bank.operator.ask_kill_release(None, "the round is over")
    bank.validator.release_kill(None, "the round is over")


def _line(what: str, seconds: list[float]) -> str:
    ordered = sorted(seconds)
    late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return (
        f"{what}: {len(ordered)} kills, p50 {statistics.median(ordered):.2f} s, p95 {late:.2f} s, "
        f"worst {ordered[-1]:.2f} s"
    )
