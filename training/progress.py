"""What a training run tells: one line a step with its seconds, so that a log reads like a story."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO


@dataclass
class Progress:
    """Writes lines at once, also where output is a pipe."""

    stream: TextIO = field(default_factory=lambda: sys.stdout)
    seconds: dict[str, float] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """One line."""
        self.stream.write(text + "\n")
        self.stream.flush()

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step; what the caller puts in the list is said with it when it ends."""
        started = time.perf_counter()
        told: list[str] = []
        yield told
        self.seconds[name] = time.perf_counter() - started
        self.say(f"{name:<10} {self.seconds[name]:6.1f} s  {'; '.join(told)}".rstrip())
