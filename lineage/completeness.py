"""Whether every numbered answer of every gateway replica is in a sealed segment. Pure.

A replica's spool is a *writer*: it numbers its decisions from 1, for each model, without a gap. A DecisionsSealed fact
states the ranges of numbers in its segment, an AnswersClosed fact how many answers a writer that is gone had reported.
A number that no segment holds, and one that two segments hold, is named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

#: Ranges of one writer that a fact lists one by one; more are stated as one with fewer answers than numbers.
MOST_RANGES = 100
Numbers = Mapping[str, list[int]]


@dataclass(frozen=True)
class Range:
    """Numbers `first` to `last` of a writer, `count` of them there."""

    writer: str
    first: int
    last: int
    count: int

    def to_dict(self) -> dict[str, Any]:
        """The form in a fact."""
        return {"writer": self.writer, "first": self.first, "last": self.last, "count": self.count}


@dataclass(frozen=True)
class Problem:
    """What is missing or too much, and the record at which that shows."""

    record: int
    text: str


@dataclass(frozen=True)
class _Held:
    """Numbers that a segment holds. `read`: the segment itself says so, not only its fact."""

    first: int
    last: int
    record: int
    read: bool


def ranges_of(numbers: Numbers) -> list[Range]:
    """The ranges of numbers of each writer, as a fact states them."""
    ranges = []
    for writer in sorted(numbers):
        runs = _runs(numbers[writer])
        if len(runs) <= MOST_RANGES:
            ranges += [Range(writer, first, last, last - first + 1) for first, last in runs]
        else:
            count = sum(last - first + 1 for first, last in runs)
            ranges.append(Range(writer, runs[0][0], runs[-1][1], count))
    return ranges


@dataclass
class Reconciliation:
    """Compares what segments state and hold. Add facts in the order of the record, then ask for `problems`."""

    answers: int = 0
    _held: dict[tuple[str, str], list[_Held]] = field(default_factory=lambda: defaultdict(list))
    _closed: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    _found: list[Problem] = field(default_factory=list)

    def sealed(
        self, record: int, model: str, segment: str, stated: Iterable[Mapping[str, Any]] | None, rows: Numbers | None
    ) -> None:
        """Add a segment.

        Args:
            stated: the ranges in its fact; None for a fact from before answers were numbered.
            rows: the numbers in the segment by writer; None where it cannot be read, which is reported elsewhere.
        """
        if stated is None:
            return
        ranges = [Range(one["writer"], one["first"], one["last"], one["count"]) for one in stated]
        self.answers += sum(one.count for one in ranges)
        if rows is None:
            for one in ranges:
                self._held[one.writer, model].append(_Held(one.first, one.last, record, read=False))
            return
        self._compare(record, model, segment, ranges, rows)
        for writer, numbers in rows.items():
            for first, last in _runs(numbers):
                self._held[writer, model].append(_Held(first, last, record, read=True))
            self._found += [
                Problem(record, f"{_names(number, number, writer, model)} twice in segment {segment}")
                for number in _repeated(numbers)
            ]

    def closed(self, record: int, writer: str, answers: Mapping[str, int]) -> None:
        """Add what a writer that is gone had reported: the number of its last answer by model."""
        for model, last in answers.items():
            self._closed[writer, model] = (record, last)

    def problems(self) -> list[Problem]:
        """Everything that is missing or too much, by record."""
        found = list(self._found)
        for series in sorted(self._held.keys() | self._closed.keys()):
            found += self._gaps(series)
        return sorted(found, key=lambda one: one.record)

    def _compare(self, record: int, model: str, segment: str, stated: list[Range], rows: Numbers) -> None:
        if ranges_of(rows) == stated:
            return
        for one in stated:
            here = {number for number in rows.get(one.writer, ()) if one.first <= number <= one.last}
            if len(here) < one.count:
                lacking = _lacking(here, one.first, one.last)
                names = "; ".join(_names(*run, one.writer, model) for run in lacking)
                self._found.append(Problem(record, f"{names} missing from segment {segment}, which states them"))
                return
        self._found.append(Problem(record, f"segment {segment} holds other answers than record {record} states"))

    def _gaps(self, series: tuple[str, str]) -> list[Problem]:
        writer, model = series
        found, upto = [], 0
        held = sorted(self._held[series], key=lambda one: (one.first, one.last))
        for one in held:
            if one.first > upto + 1:
                found.append(Problem(one.record, f"{_names(upto + 1, one.first - 1, writer, model)} missing"))
            upto = max(upto, one.last)
        for before, one in pairwise([one for one in held if one.read]):  # what cannot be read may have been put back
            if one.first <= before.last:
                which = _names(one.first, min(one.last, before.last), writer, model)
                found.append(Problem(max(one.record, before.record), f"{which} in two segments"))
        record, last = self._closed.get(series, (0, 0))
        if last > upto:
            which = _names(upto + 1, last, writer, model)
            found.append(Problem(record, f"{which} missing: the replica had reported {last} answers"))
        return found


def _names(first: int, last: int, writer: str, model: str) -> str:
    which = f"decision {first}" if first == last else f"decisions {first} to {last}"
    verb = "is" if first == last else "are"
    return f"{which} of replica {writer} for model {model} {verb}"


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers, rising."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _lacking(here: set[int], first: int, last: int) -> list[tuple[int, int]]:
    edges = [(first - 1, first - 1), *_runs(here), (last + 1, last + 1)]
    return [(before[1] + 1, after[0] - 1) for before, after in pairwise(edges) if after[0] > before[1] + 1]


def _repeated(numbers: Iterable[int]) -> list[int]:
    return sorted({after for before, after in pairwise(sorted(numbers)) if before == after})
