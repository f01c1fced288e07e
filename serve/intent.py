"""Intentions: facts that a verb wants recorded. The controller records them, and only then acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Intention:
    """A fact to be recorded: `subject` is a release where `about_release`, else a model."""

    kind: str
    subject: str
    data: dict[str, Any]
    reason: str | None = None
    about_release: bool = True
