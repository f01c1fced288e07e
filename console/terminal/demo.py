"""`plimsoll demo`: runs the story, prints it as it happens, and writes the summary to `demo.json`."""

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
from console.terminal.story import Story, StoryError
from lineage.accounts import ROLES, Accounts
from lineage.errors import PlimsollError
from lineage.settings import Settings
from plimsoll.errors import Error

FOLDER = "examples/credit_default"


@dataclass
class Told:
    """What the story came to so far."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    rollback_ms: float | None = None
    requests: dict[str, Any] = field(default_factory=lambda: {"sent": 0, "failed": 0})
    audit: dict[str, Any] = field(default_factory=lambda: {"records": 0, "ok": False})
    releases: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Every step did what it says, no request failed and the record verifies."""
        answered = self.requests["sent"] > 0 and self.requests["failed"] == 0
        return bool(self.steps) and all(step["ok"] for step in self.steps) and answered and bool(self.audit["ok"])


def run(settings: Settings, folder: str, *, leave: bool) -> bool:
    """Tell the story; return whether every step did what it says.

    Args:
        folder: the model folder.
        leave: stop everything after the summary instead of staying up until Ctrl-C.
    """
    began, told = time.monotonic(), Told()
    story: Story | None = None
    try:
        if _step(told, "up", lambda: _up(settings)):
            passwords = {name: Accounts(settings).reset_password(name) for name in ROLES}
            _sign_in_lines(settings, passwords)
            story = Story(settings, Path(folder), passwords, _say)
            for name, act in story.steps():
                if not _step(told, name, act):
                    break
    except KeyboardInterrupt:
        out.print("\nInterrupted.")
        leave = True
    finally:
        if story is not None:
            _close(told, story)
    _summary(settings, told, time.monotonic() - began)
    if leave:
        platform.down(settings)
        return told.ok
    out.print(f"\nConsole: {settings.console_url}   (sign in as above)   Ctrl-C stops everything.")
    _until_interrupted()
    platform.down(settings)
    return told.ok


def _up(settings: Settings) -> dict[str, Any]:
    started = platform.up(settings, _say)
    return {"ready_seconds": round(started.seconds, 1)}


def _step(told: Told, name: str, act: Callable[[], dict[str, Any]]) -> bool:
    out.print(f"[bold]{name}[/bold]")
    began = time.monotonic()
    entry: dict[str, Any] = {"name": name, "seconds": 0.0, "ok": False}
    told.steps.append(entry)
    try:
        entry |= act() | {"ok": True}
    except (StoryError, Error, PlimsollError) as error:
        entry["why"] = str(error)
        out.print(f"  [red]did not do what it says:[/red] {error}", soft_wrap=True)
    finally:
        entry["seconds"] = round(time.monotonic() - began, 2)
    if "rollback_ms" in entry:
        told.rollback_ms = entry["rollback_ms"]
    out.print(f"  [dim]{entry['seconds']:.1f} s[/dim]")
    return bool(entry["ok"])


def _close(told: Told, story: Story) -> None:
    told.requests = story.stop_traffic()
    verified = story.verify()
    told.audit = {"records": verified["records"], "ok": verified["ok"], "problems": verified["problems"][:3]}
    told.releases = story.release_states()


def _summary(settings: Settings, told: Told, seconds: float) -> None:
    table = Table(title="The story", title_justify="left", box=None, pad_edge=False)
    for heading in ("Step", "Seconds", "Result"):
        table.add_column(heading, justify="right" if heading == "Seconds" else "left")
    for step in told.steps:
        table.add_row(step["name"], f"{step['seconds']:.1f}", "ok" if step["ok"] else f"FAILED: {step.get('why', '')}")
    out.print(table)
    out.print(f"Requests: {told.requests['sent']} sent, {told.requests['failed']} failed")
    rollback = "not reached" if told.rollback_ms is None else f"{told.rollback_ms:.0f} ms to the last replica"
    out.print(f"Rollback: {rollback}")
    word = "verified" if told.audit["ok"] else f"NOT verified {told.audit.get('problems', '')}"
    out.print(f"Record: {told.audit['records']} facts, {word}")
    out.print(f"Releases: {', '.join(f'{name} {state}' for name, state in told.releases.items())}")
    out.print(f"{'Everything did what it says' if told.ok else 'NOT everything did what it says'}, {seconds:.0f} s.")
    view = {
        "seconds": round(seconds, 1),
        "ok": told.ok,
        "steps": told.steps,
        "requests": told.requests,
        "rollback_ms": told.rollback_ms,
        "releases": told.releases,
        "audit": told.audit,
    }
    settings.root.mkdir(parents=True, exist_ok=True)
    (settings.root / "demo.json").write_bytes(orjson.dumps(view, option=orjson.OPT_INDENT_2))
    out.print(f"Written to {settings.root / 'demo.json'}")


def _sign_in_lines(settings: Settings, passwords: dict[str, str]) -> None:
    out.print(f"  Console {settings.console_url}; sign in as")
    for name, password in passwords.items():
        out.print(f"    {name:<10} {password}", markup=False)


def _say(line: str) -> None:
    out.print(f"  {line}", markup=False, soft_wrap=True)


def _until_interrupted() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
