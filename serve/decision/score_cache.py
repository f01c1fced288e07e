"""Cache of scored rows: a release gives the same row the same answer.

Only answers of the champion are cached, and used only while it is champion. Each cached answer is still recorded as a
decision of its own.
"""

from __future__ import annotations

from collections import OrderedDict

from serve.decision.answers import Scored

_MOST = 4096  # rows of about 2 KiB

#: Digest of the release, whether reasons were asked for beyond the policy's, the row's bytes.
RowKey = tuple[str, bool, bytes]


class ScoreCache:
    """Least recently used cache of scored rows."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._known: OrderedDict[RowKey, Scored] = OrderedDict()
        self.hits = 0

    def __len__(self) -> int:
        return len(self._known)

    def get(self, row: RowKey) -> Scored | None:
        """The cached answer, or None."""
        found = self._known.get(row)
        if found is not None:
            self.hits += 1
            self._known.move_to_end(row)
        return found

    def put(self, row: RowKey, scored: Scored) -> None:
        """Cache an answer."""
        self._known[row] = scored
        if len(self._known) > self._most:
            self._known.popitem(last=False)
