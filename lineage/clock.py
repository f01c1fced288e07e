"""Clock and time stamps. The clock is a parameter, so that tests set the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)


def stamp(instant: datetime) -> str:
    """An instant as written in records: RFC 3339, UTC, microseconds."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def instant(text: str) -> datetime:
    """The instant of a time stamp.

    Raises:
        ValueError: it is not one.
    """
    return datetime.fromisoformat(text)
