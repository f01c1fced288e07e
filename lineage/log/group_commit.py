"""Group commit: whoever asks while a flush is under way shares the next one, so that many writers cost few flushes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Result = TypeVar("Result")


@dataclass(slots=True)
class Slot(Generic[Asked, Result]):
    """One caller's wish and what came of it: a result, or the error it is to be raised with."""

    asked: Asked
    result: Result | None = None
    error: BaseException | None = None
    leads: bool = False
    next: Slot[Asked, Result] | None = None
    _woken: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._woken.acquire()

    def wait(self) -> None:
        """Until `wake`."""
        self._woken.acquire()

    def wake(self) -> None:
        """Let the caller go on; call once."""
        self._woken.release()


class GroupCommit(Generic[Asked, Result]):
    """Runs `commit` on everything that was asked for since the last time, never twice at once, in the order asked.

    There is no thread of its own: the caller who finds nobody committing leads, commits one group that holds its own
    wish, and hands over to somebody who came meanwhile. So nobody works for others for ever.

    Args:
        commit: sets `result` or `error` of every slot. What it raises is raised to every caller of the group.
    """

    def __init__(self, commit: Callable[[Sequence[Slot[Asked, Result]]], None]) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._waiting: list[Slot[Asked, Result]] = []
        self._led = False

    def ask(self, asked: Asked) -> Result:
        """Return what came of it, once the group it went with is committed."""
        slot: Slot[Asked, Result] = Slot(asked)
        with self._lock:
            self._waiting.append(slot)
            slot.leads, self._led = not self._led, True
        if not slot.leads:
            slot.wait()
        if slot.leads:
            self._lead()
        elif slot.next is not None:
            slot.next.wake()
        if slot.error is not None:
            raise slot.error
        return slot.result  # type: ignore[return-value]  # commit has set it

    def _lead(self) -> None:
        with self._lock:
            group, self._waiting = self._waiting, []
        try:
            self._commit(group)
        except BaseException as error:
            for slot in group:
                slot.error = slot.error or error
            raise
        finally:
            self._hand_over(group)

    def _hand_over(self, group: Sequence[Slot[Asked, Result]]) -> None:
        with self._lock:
            heir = self._waiting[0] if self._waiting else None
            self._led = heir is not None
        if heir is not None:
            heir.leads = True
            heir.wake()
        # Each wakes the next: woken all at once they would fight for the interpreter, which costs a third of the speed.
        others = [slot for slot in group if not slot.leads]
        for slot, follower in pairwise(others):
            slot.next = follower
        if others:
            others[0].wake()
