"""How many answers each gateway replica has reported: what its spool has to hold, also after the replica is gone.

A replica reports the numbers of its last answers with every poll for routes. Whatever it reported is in its spool: the
line is written before the number counts. Where a spool holds less, its end was cut off; the numbers that follow would
show that while the replica lives, and the statement made here shows it after the replica is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from serve.record.spool import SERIES, Record

Counts = dict[str, int]


def replica_of(writer: str) -> str:
    """The replica that a writer belongs to."""
    return writer.rpartition(SERIES)[0]


class Series:
    """Reported and read numbers by writer and model. The reported ones are kept in a file for the next controller.

    The file only makes up for a crash of the controller. Without it nothing is taken for missing that is not.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.reported: dict[str, Counts] = _load(file)
        self._read: dict[str, Counts] = {}

    def report(self, answers: Mapping[str, Mapping[str, int]]) -> None:
        """Take reports: number of the last answer by writer and model."""
        changed = False
        for writer, counts in answers.items():
            known = self.reported.setdefault(writer, {})
            for model, number in counts.items():
                if number > known.get(model, 0):
                    known[model] = number
                    changed = True
        if changed:
            self._store()

    def read(self, records: Iterable[Record]) -> None:
        """Note the numbers of records that were read from the spools."""
        for record in records:
            number = record.get("number")
            if number is not None and record["type"] == "decision":
                counts = self._read.setdefault(record["writer"], {})
                counts[record["model"]] = max(number, counts.get(record["model"], 0))

    def cut_off(self, answers: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, int, int]]:
        """Writer, model, first and last number of answers that were reported and then not in the spools.

        Args:
            answers: reports from before the spools were read to their end. A writer of which this process has read
                nothing is left out: an earlier controller may have sealed its answers.
        """
        missing = []
        for writer, counts in sorted(answers.items()):
            for model, number in sorted(counts.items()):
                read = self._read.get(writer, {}).get(model)
                if read is not None and read < number:
                    missing.append((writer, model, read + 1, number))
        return missing

    def gone(self, replicas: set[str]) -> dict[str, Counts]:
        """Writers with reports whose replica is none of these, neither alive nor with lines in a spool."""
        return {writer: counts for writer, counts in self.reported.items() if replica_of(writer) not in replicas}

    def forget(self, writer: str) -> None:
        """Drop a writer whose end is on record."""
        self.reported.pop(writer, None)
        self._read.pop(writer, None)
        self._store()

    def _store(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".part")
        draft.write_bytes(orjson.dumps(self.reported))
        draft.replace(self._file)


def _load(file: Path) -> dict[str, Counts]:
    try:
        found: Any = orjson.loads(file.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):  # cut off by a crash: as if no replica had reported
        return {}
    return {str(writer): dict(counts) for writer, counts in found.items()} if isinstance(found, dict) else {}
