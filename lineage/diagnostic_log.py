"""Diagnostic log of a process: structlog, one line per event on stderr. Facts go to the ledger, not here."""

from __future__ import annotations

import logging
import sys

import structlog


class _NamedLogger(structlog.PrintLogger):
    """Writes to stderr and keeps the name that `structlog.get_logger` was called with."""

    def __init__(self, name: str = "plimsoll") -> None:
        super().__init__(sys.stderr)
        self.name = name


def configure_diagnostic_log(level: int = logging.INFO) -> None:
    """Configure structlog for this process: time in UTC, level, logger, event, then the event's fields.

    Args:
        level: events below it are dropped.
    """
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "logger", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_NamedLogger,
    )
