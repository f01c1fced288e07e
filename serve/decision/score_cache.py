"""Rows that were scored before: the same release gives the same row the same answer, so it need not be worked out.

Only what the champion itself answered is kept, never longer than it is champion. Each answer is a decision of its own
on record all the same.
"""

from __future__ import annotations

from collections import OrderedDict

from serve.decision.answers import Scored

_MOST = 4096  # answers; one takes about two KiB

#: Digest of the release, whether reasons were asked for beyond the policy's, the row's bytes.
RowKey = tuple[str, bool, bytes]


class ScoreCache:
    """The last answers, least recently wanted first."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._known: OrderedDict[RowKey, Scored] = OrderedDict()
        self.hits = 0

    def __len__(self) -> int:
        return len(self._known)

    def get(self, row: RowKey) -> Scored | None:
        """What was answered, or None."""
        found = self._known.get(row)
        if found is not None:
            self.hits += 1
            self._known.move_to_end(row)
        return found

    def put(self, row: RowKey, scored: Scored) -> None:
        """Remember an answer."""
        self._known[row] = scored
        if len(self._known) > self._most:
            self._known.popitem(last=False)
