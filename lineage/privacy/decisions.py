"""Look-up of decisions by id or by person, in sealed segments and in spools that are not sealed yet.

A segment is parsed only if its digest is the one in its DecisionsSealed fact. An index beside the segments has the ids
and pseudonyms in each of them, no personal data; it is rebuilt when it is missing or does not match the log. A segment
that cannot be read is named in the answer, and the others are read.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from lineage.errors import PlimsollError, UnavailableError, UnknownError
from lineage.log.index import Records
from lineage.privacy.key_vault import Vault
from lineage.segments import Missing, Place, Segments, place_of
from lineage.settings import Settings

if TYPE_CHECKING:
    import polars as pl

Row = dict[str, Any]
#: Fields of a decision about the person, sealed under the person's key. `key_hash_share` is a hash of the key with a
#: salt on record, and an error may repeat a value that was sent. Score and decision are the bank's own acts: without
#: the other fields they identify no person, and drift and the judge have to count them.
PERSONAL_FIELDS = ("key", "key_hash_share", "features", "reasons", "error")
_SELECT = "SELECT record, segment, uri, digest FROM segments"
READABLE, PLAIN, ERASED, MISSING = "readable", "plain", "erased", "missing"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS segments (record INTEGER PRIMARY KEY, segment TEXT NOT NULL, uri TEXT NOT NULL,
    digest TEXT NOT NULL, plain INTEGER NOT NULL DEFAULT 0, fault TEXT);
CREATE TABLE IF NOT EXISTS places (name TEXT, kind TEXT, record INTEGER, PRIMARY KEY (name, kind, record))
    WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Found:
    """One decision: its row as far as it can be opened, its segment (None: still spooled), and its outcomes.

    `missing` are the segments that hold outcomes of it and cannot be read.
    """

    row: Row
    place: Place | None
    outcomes: list[Row] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


@dataclass(frozen=True)
class History:
    """The decisions about one person, oldest first, and the segments that may hold more and cannot be read."""

    decisions: list[Found]
    missing: list[Missing]


def belongs_to(row: Row) -> bytes:
    """The associated data of a row's sealed fields: they open for this decision of this model only."""
    return f"{row['decision_id']}\0{row['model']}".encode()


def unseal(rows: Iterable[Row], vault: Vault) -> list[Row]:
    """Rows of a segment with their sealed fields opened where the key still exists.

    Each decision gets a field `person`: readable, plain (sealed before keys existed), erased, or missing (the vault has
    neither key nor erasure). For the last two the personal fields are None; `error` keeps its kind.

    Args:
        rows: rows of a segment as dictionaries by column.
        vault: the keys.

    Raises:
        TamperedError: sealed data is not what was sealed for this decision.
    """
    rows = list(rows)
    sealed = [row for row in rows if row["type"] == "decision" and "sealed" in row]
    opened = vault.open([(row["subject"], belongs_to(row), row["sealed"]) for row in sealed])
    gone = vault.key_states({row["subject"] for row, data in zip(sealed, opened, strict=True) if data is None})
    reports_read = {id(row): (data, gone.get(row["subject"])) for row, data in zip(sealed, opened, strict=True)}
    revealed = []
    for row in rows:
        rest = {name: value for name, value in row.items() if name != "sealed"}
        if id(row) in reports_read:
            data, standing = reports_read[id(row)]
            hidden = {name: row.get(name) for name in PERSONAL_FIELDS}
            rest |= hidden if data is None else orjson.loads(data)
            rest["person"] = READABLE if data is not None else MISSING if standing == "missing" else ERASED
        elif row["type"] == "decision":
            rest["person"] = PLAIN
        revealed.append(rest)
    return revealed


class Decisions:
    """Look-up of decisions of one home folder; may be shared by threads.

    Args:
        segments: reader of the segments, if it is shared with others.

    Raises (every method):
        UnavailableError: the index, the vault or the one segment that is wanted cannot be read.
        TamperedError: that segment does not have its recorded digest.
    """

    def __init__(self, settings: Settings, records: Records, vault: Vault, segments: Segments | None = None) -> None:
        self._settings, self._vault = settings, vault
        self._segments = segments or Segments(settings.root)
        self._index = _Index(settings.decisions / "index.db", records, self._segments.rows)

    def find(self, decision_id: str) -> Found:
        """The decision of that id.

        Raises:
            UnknownError: there is none.
        """
        for look in (self._in_segments, self._in_spools, self._in_segments):  # it may be sealed during the search
            found = look(decision_id)
            if found is not None:
                return found
        unread = self._index.unread()
        if unread:
            names = "; ".join(f"{place.segment} (record {place.record}): {why}" for place, why in unread[:5])
            raise UnavailableError(
                f"no readable segment holds decision {decision_id[:64]!r}, and {len(unread)} cannot be read: {names}",
                field="decision_id",
                missing_segments=[Missing(one.record, one.model, one.segment, why).to_dict() for one, why in unread],
            )
        raise UnknownError(f"there is no decision {decision_id[:64]!r} on record", field="decision_id")

    def of_subject(self, subject: str) -> History:
        """Every decision about one person who was not erased."""
        import polars as pl

        self._index.catch_up()
        pseudonym, found = self._vault.existing_pseudonym(subject) or "", dict[str, tuple[Row, Place | None]]()
        unread = {record: Missing(record, place.model, place.segment, why) for record, place, why in self._faults()}
        places = [(place, "key", subject) for place in self._index.plain()]
        places += [(place, "subject", pseudonym) for place in self._index.places(pseudonym, "subject")]
        for place, column, name in places:
            rows = self._rows(place, unread)
            if rows is not None:
                mine = rows.filter(pl.col(column) == name, pl.col("type") == "decision")
                found |= {row["decision_id"]: (row, place) for row in unseal(mine.to_dicts(), self._vault)}
        for row in spooled(self._settings.spool, subject):
            if (
                row["type"] == "decision"
                and row["key"] == subject
                and not self._vault.erased_pseudonym(subject, row["at"])
            ):
                found.setdefault(row["decision_id"], (row | {"person": READABLE}, None))
        outcomes = self._outcomes(set(found), unread)
        all_of_them = [Found(row, place, outcomes[name]) for name, (row, place) in found.items()]
        ordered = sorted(all_of_them, key=lambda one: (str(one.row["at"])[:19], one.row["decision_id"]))
        return History(ordered, [unread[record] for record in sorted(unread)])

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def _in_segments(self, decision_id: str) -> Found | None:
        import polars as pl

        self._index.catch_up()
        places = self._index.places(decision_id, "decision")
        if not places:
            return None
        frame = self._segments.rows(places[0])
        rows = frame.filter(pl.col("decision_id") == decision_id, pl.col("type") == "decision")
        (row,) = unseal(rows.to_dicts(), self._vault)
        return self._with_outcomes(row, places[0])

    def _in_spools(self, decision_id: str) -> Found | None:
        for row in spooled(self._settings.spool, decision_id):
            if row["type"] == "decision" and row["decision_id"] == decision_id:
                erased = self._vault.erased_pseudonym(str(row["key"]), row["at"]) is not None
                hidden = dict.fromkeys(PERSONAL_FIELDS) if erased else {}
                return self._with_outcomes(row | hidden | {"person": ERASED if erased else READABLE}, None)
        return None

    def _with_outcomes(self, row: Row, place: Place | None) -> Found:
        unread: dict[int, Missing] = {}
        outcomes = self._outcomes({row["decision_id"]}, unread)[row["decision_id"]]
        return Found(row, place, outcomes, [unread[record] for record in sorted(unread)])

    def _faults(self) -> Iterator[tuple[int, Place, str]]:
        return ((place.record, place, why) for place, why in self._index.unread())

    def _rows(self, place: Place, unread: dict[int, Missing]) -> pl.DataFrame | None:
        """The rows of a segment; None, with a note in `unread`, if it cannot be read."""
        try:
            return self._segments.rows(place)
        except PlimsollError as error:
            unread[place.record] = Missing(place.record, place.model, place.segment, error.message)
            return None

    def _outcomes(self, names: set[str], unread: dict[int, Missing]) -> dict[str, list[Row]]:
        """The reported outcomes of each decision, oldest first; the first one counts."""
        import polars as pl

        reports_read = [row for row in spooled(self._settings.spool, "outcome") if row["type"] == "outcome"]
        for place in {place for name in names for place in self._index.places(name, "outcome")}:
            rows = self._rows(place, unread)
            if rows is not None:
                reports_read += rows.filter(pl.col("type") == "outcome").to_dicts()
        reports = sorted(
            {(row["at"], row["decision_id"], row["outcome"]) for row in reports_read if row["decision_id"] in names}
        )
        outcomes: dict[str, list[Row]] = {name: [] for name in names}
        for at, name, outcome in reports:
            outcomes[name].append({"at": at, "outcome": outcome})
        return outcomes


def spooled(folder: Path, word: str) -> Iterator[Row]:
    """Rows of whole spool lines that contain `word` as a JSON string."""
    needle = orjson.dumps(word)
    for path in sorted(folder.glob("*.jsonl")):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # all of it was sealed meanwhile
        if needle in data:
            for line in data[: data.rfind(b"\n") + 1].splitlines():
                row = _parsed(line) if needle in line else None
                if row is not None:
                    yield row


def _parsed(line: bytes) -> Row | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None  # torn: the customer got an error, not a decision
    return row if isinstance(row, dict) and row.get("type") in ("decision", "outcome") else None


class _Index:
    """Index of decisions, outcomes and pseudonyms by segment: an SQLite file that can be rebuilt at any time."""

    def __init__(self, path: Path, records: Records, read: Callable[[Place], pl.DataFrame]) -> None:
        self._records, self._read = records, read
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with _as_unavailable():
            try:
                self._db = _connect(path)
            except sqlite3.DatabaseError:
                path.unlink(missing_ok=True)
                self._db = _connect(path)

    def catch_up(self) -> None:
        """Index segments sealed since the last call, and those that could not be read then."""
        with self._lock, _as_unavailable():
            newest = self._db.execute("SELECT record, digest FROM segments ORDER BY record DESC LIMIT 1").fetchone()
            fits = newest is None or self._is_sealed(*newest)
            unread = self._db.execute(f"{_SELECT} WHERE fault IS NOT NULL").fetchall() if fits else []
            after = newest[0] if newest and fits else 0
            places = [Place(*row) for row in unread]
            places += [
                place_of(record) for record in self._records.find(kinds=["DecisionsSealed"], after=after).records
            ]
            if fits and not places:
                return
            self._db.execute("BEGIN")
            try:
                if not fits:  # it was made from another log
                    self._db.execute("DELETE FROM segments")
                    self._db.execute("DELETE FROM places")
                for place in places:
                    self._index_segment(place)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def places(self, name: str, kind: str) -> list[Place]:
        """Segments with a decision, an outcome (by the decision's id) or a subject (by pseudonym)."""
        query = f"{_SELECT} JOIN places USING (record) WHERE name = ? AND kind = ? ORDER BY record"
        return [Place(*row) for row in self._query(query, name, kind)]

    def plain(self) -> list[Place]:
        """Segments sealed before keys existed."""
        return [Place(*row) for row in self._query(f"{_SELECT} WHERE plain ORDER BY record")]

    def unread(self) -> list[tuple[Place, str]]:
        """Each segment that could not be read, and why."""
        query = "SELECT record, segment, uri, digest, fault FROM segments WHERE fault IS NOT NULL ORDER BY record"
        return [(Place(*row[:4]), row[4]) for row in self._query(query)]

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _is_sealed(self, record: int, digest: str) -> bool:
        return record <= len(self._records) and self._records[record - 1]["data"].get("digest") == digest

    def _index_segment(self, place: Place) -> None:

        fault, plain, names = None, False, set()
        try:
            frame = self._read(place)
            plain = "subject" not in frame.columns
            names = set(frame.select("decision_id", "type").iter_rows())
            if not plain:
                names |= {(name, "subject") for name in frame["subject"].drop_nulls()}
        except PlimsollError as error:
            fault = str(error)
        row = (place.record, place.segment, place.uri, place.digest, plain, fault)
        self._db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?)", row)
        rows = [(name, kind, place.record) for name, kind in names]
        self._db.executemany("INSERT OR IGNORE INTO places VALUES (?, ?, ?)", rows)

    def _query(self, query: str, *values: str) -> list[Any]:
        with self._lock, _as_unavailable():
            return self._db.execute(query, values).fetchall()


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(_SCHEMA)
    return db


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise UnavailableError(f"the index of decisions does not answer: {error}", field="decisions") from error
