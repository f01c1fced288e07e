"""The progress log of a training run: one line a step with its seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO


@dataclass
class Progress:
    """Writes lines and flushes each, so that they also appear at once where the output is a pipe."""

    stream: TextIO = field(default_factory=lambda: sys.stdout)
    seconds: dict[str, float] = field(default_factory=dict)

    def write(self, text: str) -> None:
        """Write one line."""
        self.stream.write(text + "\n")
        self.stream.flush()

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step; notes that the caller adds to the list are written in its line when it ends."""
        started = time.perf_counter()
        notes: list[str] = []
        yield notes
        self.seconds[name] = time.perf_counter() - started
        self.write(f"{name:<10} {self.seconds[name]:6.1f} s  {'; '.join(notes)}".rstrip())
