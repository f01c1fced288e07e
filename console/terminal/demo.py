"""`plimsoll demo`: runs the scenario, prints its progress, and writes the summary to `demo.json`."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from console.terminal import up as platform
from console.terminal.output import out
from console.terminal.scenario import Scenario, ScenarioError
from lineage.errors import PlimsollError, RefusedError
from lineage.secret_files import write_secret
from lineage.settings import Settings
from plimsoll.errors import Error

FOLDER = "examples/credit_default"
_PASSWORDS = "demo-passwords.json"


@dataclass
class Outcome:
    """Result of the scenario so far."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    rollback_ms: float | None = None
    requests: dict[str, Any] = field(default_factory=lambda: {"sent": 0, "failed": 0})
    audit: dict[str, Any] = field(default_factory=lambda: {"records": 0, "ok": False})
    releases: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Every step succeeded, requests were answered without a failure, and the record verifies."""
        answered = self.requests["sent"] > 0 and self.requests["failed"] == 0
        return bool(self.steps) and all(step["ok"] for step in self.steps) and answered and bool(self.audit["ok"])


def run(settings: Settings, folder: str, *, leave: bool) -> bool:
    """Run the scenario; return `Outcome.ok`.

    Args:
        folder: the model folder.
        leave: stop everything after the summary instead of staying up until Ctrl-C.
    """
    began, outcome = time.monotonic(), Outcome()
    scenario: Scenario | None = None
    try:
        if _run_step(outcome, "up", lambda: _up(settings)):
            passwords = _passwords(settings)
            _sign_in_lines(settings, passwords)
            scenario = Scenario(settings, Path(folder), passwords, _report)
            for name, step in scenario.steps():
                if not _run_step(outcome, name, step):
                    break
    except KeyboardInterrupt:
        out.print("\nInterrupted.")
        leave = True
    finally:
        if scenario is not None:
            _close(outcome, scenario)
    _summary(settings, outcome, time.monotonic() - began)
    if leave or scenario is None:  # without a scenario nothing is running
        platform.down(settings)
        return outcome.ok
    out.print(f"\nConsole: {settings.console_url}   (sign in as above)   Ctrl-C stops everything.")
    _until_interrupted()
    platform.down(settings)
    return outcome.ok


def _up(settings: Settings) -> dict[str, Any]:
    started = platform.up(settings, _report, on_new_accounts=lambda made: _keep_passwords(settings, made))
    return {"ready_seconds": round(started.seconds, 1)}


def _keep_passwords(settings: Settings, passwords: dict[str, str]) -> None:
    """Store the passwords of a home that the demo made, so that it can run there again."""
    write_secret(settings.secrets / _PASSWORDS, orjson.dumps(passwords).decode())


def _passwords(settings: Settings) -> dict[str, str]:
    """The passwords of the demo's people.

    Raises:
        RefusedError: the home was not made by the demo; its people have passwords of their own.
    """
    try:
        known: dict[str, str] = orjson.loads((settings.secrets / _PASSWORDS).read_bytes())
    except FileNotFoundError:
        raise RefusedError(
            f"{settings.root} has accounts that the demo did not make; give it a home of its own: "
            "PLIMSOLL_HOME=/path/to/another plimsoll demo",
            code="home",
        ) from None
    return known


def _run_step(outcome: Outcome, name: str, step: Callable[[], dict[str, Any]]) -> bool:
    out.print(f"[bold]{name}[/bold]")
    began = time.monotonic()
    entry: dict[str, Any] = {"name": name, "seconds": 0.0, "ok": False}
    outcome.steps.append(entry)
    try:
        entry |= step() | {"ok": True}
    except (ScenarioError, Error, PlimsollError) as error:
        entry["why"] = str(error)
        out.print(f"  [red]failed:[/red] {error}", soft_wrap=True)
    finally:
        entry["seconds"] = round(time.monotonic() - began, 2)
    if "rollback_ms" in entry:
        outcome.rollback_ms = entry["rollback_ms"]
    out.print(f"  [dim]{entry['seconds']:.1f} s[/dim]")
    return bool(entry["ok"])


def _close(outcome: Outcome, scenario: Scenario) -> None:
    outcome.requests = scenario.stop_traffic()
    verified = scenario.verify()
    outcome.audit = {"records": verified["records"], "ok": verified["ok"], "problems": verified["problems"][:3]}
    outcome.releases = scenario.release_states()


def _summary(settings: Settings, outcome: Outcome, seconds: float) -> None:
    table = Table(title="Steps", title_justify="left", box=None, pad_edge=False)
    for heading in ("Step", "Seconds", "Result"):
        table.add_column(heading, justify="right" if heading == "Seconds" else "left")
    for step in outcome.steps:
        table.add_row(step["name"], f"{step['seconds']:.1f}", "ok" if step["ok"] else f"FAILED: {step.get('why', '')}")
    out.print(table)
    out.print(f"Requests: {outcome.requests['sent']} sent, {outcome.requests['failed']} failed")
    rollback = "not reached" if outcome.rollback_ms is None else f"{outcome.rollback_ms:.0f} ms to the last replica"
    out.print(f"Rollback: {rollback}")
    word = "verified" if outcome.audit["ok"] else f"NOT verified {outcome.audit.get('problems', '')}"
    out.print(f"Record: {outcome.audit['records']} facts, {word}")
    out.print(f"Releases: {', '.join(f'{name} {state}' for name, state in outcome.releases.items())}")
    out.print(f"{'All steps succeeded' if outcome.ok else 'NOT all steps succeeded'}, {seconds:.0f} s.")
    view = {
        "seconds": round(seconds, 1),
        "ok": outcome.ok,
        "steps": outcome.steps,
        "requests": outcome.requests,
        "rollback_ms": outcome.rollback_ms,
        "releases": outcome.releases,
        "audit": outcome.audit,
    }
    settings.root.mkdir(parents=True, exist_ok=True)
    (settings.root / "demo.json").write_bytes(orjson.dumps(view, option=orjson.OPT_INDENT_2))
    out.print(f"Written to {settings.root / 'demo.json'}")


def _sign_in_lines(settings: Settings, passwords: dict[str, str]) -> None:
    out.print(f"  Console {settings.console_url}; sign in as")
    for name, password in passwords.items():
        out.print(f"    {name:<12} {password}", markup=False)


def _report(line: str) -> None:
    out.print(f"  {line}", markup=False, soft_wrap=True)


def _until_interrupted() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
