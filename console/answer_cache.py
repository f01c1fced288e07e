"""The last answers of the ledger to one console process, so that what did not change is not sent again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

#: All bodies together; the one used longest ago goes first.
MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """A body with the ETag under which the ledger gave it."""

    etag: str
    body: bytes


class AnswerCache:
    """Answers by person and question. A kept body is used only after the ledger answered that it is still the same."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._answers: OrderedDict[Hashable, Answer] = OrderedDict()
        self._most = most_bytes
        self._bytes = 0

    def get(self, key: Hashable) -> Answer | None:
        """The answer kept for this question."""
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    def put(self, key: Hashable, answer: Answer) -> None:
        """Keep an answer in place of the one before; one larger than everything may be is not kept."""
        before = self._answers.pop(key, None)
        self._bytes -= len(before.body) if before else 0
        if len(answer.body) > self._most:
            return
        self._answers[key] = answer
        self._bytes += len(answer.body)
        while self._bytes > self._most:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= len(oldest.body)
