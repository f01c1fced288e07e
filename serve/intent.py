"""Intentions: facts that a verb wants recorded. The controller records them, and only then acts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

View = dict[str, Any]  # a model or a release of the ledger's fold


@dataclass(frozen=True)
class Intention:
    """A fact to be recorded: `subject` is a release where `about_release`, else a model."""

    kind: str
    subject: str
    data: dict[str, Any]
    reason: str | None = None
    about_release: bool = True


def parse_time(text: str) -> datetime:
    """Parse a time as the ledger writes it, with its zone.

    Raises:
        ValueError: it is not in ISO 8601.
    """
    return datetime.fromisoformat(text)


def next_step(steps: list[float], share: float) -> float | None:
    """The first step above `share`; None where there is none."""
    return next((step for step in steps if step > share), None)
