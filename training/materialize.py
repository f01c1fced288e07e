"""Put the newest pinned rows of a model into its online store, so that decisions can be requested by entity.

    python -m training.materialize examples/credit_default

What is written is what the model learns from: the rows that the feature service returns. All of it is read back and
compared, bit for bit. Exit status: 0 done, 1 a resource failed, 2 invalid input. Needs no Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from lineage.clock import Clock, instant, now, stamp
from lineage.errors import InvalidError, UnavailableError
from lineage.private_folders import close_to_others
from lineage.settings import Settings
from training.dataset import Pin, content_digest
from training.features import load_definitions, training_frame
from training.origin import address_of, origin_of
from training.progress import Progress
from training.spec import Spec, load_spec
from validators.scoring.feature_origin import MATERIALIZED, Origin, View, feast_home, read_origins, write_address
from validators.scoring.online_store import OnlineStore, run_in_utc

DONE, UNAVAILABLE, INVALID = 0, 1, 2
_NO_RELEASE = "sha256:" + "0" * 64  # the origin of the current definitions, bound to no release
_READ_BATCH = 1000
_REPORTED_SHARE = 0.2


@dataclass(frozen=True)
class Materialized:
    """What was written to the online store.

    as_of: when the rows were true; from it their age is counted. fresh_until: when the first of them is too old, None
    where no view has a limit.
    """

    model: str
    service: str
    version: int
    digest: str
    rows: int
    as_of: str
    fresh_until: str | None
    views: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The last line with --json."""
        return asdict(self)


def materialize(
    spec: Spec, settings: Settings, progress: Progress, *, as_of: datetime | None = None, clock: Clock = now
) -> Materialized:
    """Write the newest pinned rows and read them back. A process that uses Feast's SQLite store must run in UTC.

    Args:
        as_of: when the rows were true; when they were pinned, if None, so that the same rows written again do not
            become younger. Cut to whole seconds, which is what Feast's stores keep.

    Raises:
        InvalidError: `as_of` is in the future or has no zone, or the definitions cannot be read by key or would let a
            release read a feature that is no longer written.
        UnavailableError: nothing was pinned yet, or the store refuses the rows, or returns others.
    """
    started = time.perf_counter()
    model, source = spec.model.name, spec.feature_source
    home = feast_home(settings, model)
    with progress.step("pin") as notes:
        pin, pinned_at = newest_pin(model, settings)
        true_at = _whole_second(as_of or pinned_at, clock())
        notes.append(f"version {pin.version}, {pin.digest[:19]}, {pin.rows:,} rows, as of {stamp(true_at)}")
    with progress.step("features") as notes:
        frame = training_frame(source, pin, spec.data.key, spec.data.label, settings)
        origin = origin_of(model, load_definitions(source, home), _NO_RELEASE)
        _check_releases_are_served(origin, read_origins(settings, model))
        notes.append(f"Feast service {origin.service}: {', '.join(view.name for view in origin.views)}")
    address = address_of(source.repository)
    store = OnlineStore(address, home)
    for view in origin.views:
        with progress.step("write") as notes:
            _write(store, view, frame, true_at, progress)
            notes.append(view.name)
        with progress.step("read back") as notes:
            _read_back(store, view, frame, true_at)
            notes.append(f"{view.name}: {frame.height:,} rows, bit for bit")
    write_address(model, address, settings)
    limits = [view.ttl_seconds for view in origin.views if view.ttl_seconds]
    done = Materialized(
        model=model,
        service=origin.service,
        version=pin.version,
        digest=pin.digest,
        rows=frame.height,
        as_of=stamp(true_at),
        fresh_until=stamp(true_at + timedelta(seconds=min(limits))) if limits else None,
        views=tuple(view.name for view in origin.views),
        seconds=round(time.perf_counter() - started, 3),
    )
    _write_summary(home / MATERIALIZED, done)
    return done


def newest_pin(model: str, settings: Settings) -> tuple[Pin, datetime]:
    """The newest version of the model's data that was pinned, and when that was.

    Raises:
        UnavailableError: nothing was pinned yet.
    """
    path = (settings.datasets / model).resolve()
    try:
        table = DeltaTable(str(path))
        at = datetime.fromtimestamp(table.history(1)[0]["timestamp"] / 1000.0, UTC)
    except TableNotFoundError as error:
        raise UnavailableError(
            f"no data of {model} was pinned yet; train it first: `plimsoll train FOLDER`", field="model"
        ) from error
    frame = _rows(table)
    return Pin(model, path, table.version(), content_digest(frame), frame.height, tuple(frame.columns), new=False), at


def _rows(table: DeltaTable) -> pl.DataFrame:
    """The rows of a table, read through pyarrow as a pin is."""
    frame = pl.from_arrow(table.to_pyarrow_table())
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()


def _whole_second(at: datetime, present: datetime) -> datetime:
    if at.tzinfo is None:
        raise InvalidError(f"as-of {at.isoformat()} has no zone; expected e.g. 2026-03-04T10:02Z", field="as_of")
    if at > present:
        raise InvalidError(
            f"as-of {stamp(at)} is in the future; expected a moment up to {stamp(present)}", field="as_of"
        )
    return at.astimezone(UTC).replace(microsecond=0)


def _check_releases_are_served(origin: Origin, bound: Sequence[Origin]) -> None:
    """Refuse definitions that drop a feature which a release reads.

    A store keeps one time for a whole row: a feature that is no longer written would look as young as the rest.

    Raises:
        InvalidError: names the view, the feature and the release.
    """
    written = {view.name: view for view in origin.views}
    for release in bound:
        for view in release.views:
            now_written = written.get(view.name)
            if now_written is None:
                continue  # nothing of it is written: the whole row grows old, which its time shows
            gone = [name for name, kind in view.features.items() if now_written.features.get(name) != kind]
            if gone:
                raise InvalidError(
                    f"view {view.name} no longer gives {gone[0]!r} as release {release.digest[:19]}… reads it; keep "
                    "the feature as it was, or give the changed view another name",
                    field="features.service",
                )


def _write(store: OnlineStore, view: View, frame: pl.DataFrame, at: datetime, progress: Progress) -> None:
    done = reported = 0

    def report(count: int) -> None:
        nonlocal done, reported
        done += count
        if done - reported >= _REPORTED_SHARE * frame.height and done < frame.height:
            reported = done
            progress.write(f"  {view.name}: {done:,} of {frame.height:,} rows")

    store.write(view, frame.select(*view.keys, *view.features).to_dicts(), at, report)


def _read_back(store: OnlineStore, view: View, frame: pl.DataFrame, at: datetime) -> None:
    for part in frame.iter_slices(_READ_BATCH):
        wanted = part.select(*view.features).to_dicts()
        keys = part.select(*view.keys).to_dicts()
        for values, row in zip(wanted, store.read(view, keys), strict=True):
            if row.at != at:
                held = "nothing" if row.at is None else f"a row of {stamp(row.at)}"
                raise UnavailableError(
                    f"view {view.name} holds {held} where one of {stamp(at)} was put; some stores keep what is newer: "
                    "choose a later --as-of",
                    field="as_of",
                )
            _compare(view, values, row.values)


def _compare(view: View, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if found[name] != value or type(found[name]) is not type(value):
            raise UnavailableError(
                f"view {view.name} gives back {found[name]!r} where {value!r} was put as {name}; expected the same: "
                f"choose a type for it in definitions.py that can hold it (it is {view.features[name]}), or a later "
                "--as-of if the store keeps the first row of each moment",
                field=name,
            )


def _write_summary(path: Path, done: Materialized) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(done.to_dict(), indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's text."""
    close_to_others()
    parser = argparse.ArgumentParser(prog="python -m training.materialize", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="the model folder, with model.toml")
    parser.add_argument("--as-of", help="when the rows were true, e.g. 2026-03-04T10:02Z (default: when pinned)")
    parser.add_argument("--json", action="store_true", help="progress to stderr, the outcome as JSON to stdout")
    given = parser.parse_args(arguments)
    progress = Progress(sys.stderr if given.json else sys.stdout)
    run_in_utc()
    try:
        done = materialize(load_spec(given.folder), Settings(), progress, as_of=read_moment(given.as_of))
    except InvalidError as error:
        progress.write(f"invalid: {error.message}")
        return INVALID
    except UnavailableError as error:
        progress.write(f"failed: {error.message}")
        return UNAVAILABLE
    if given.json:
        sys.stdout.write(json.dumps(done.to_dict()) + "\n")
    return DONE


def read_moment(text: str | None) -> datetime | None:
    """The moment that --as-of gives.

    Raises:
        InvalidError: it is not a moment.
    """
    if text is None:
        return None
    try:
        return instant(text)
    except ValueError as error:
        raise InvalidError(f"as-of is {text[:40]!r}; expected e.g. 2026-03-04T10:02Z", field="as_of") from error


if __name__ == "__main__":
    sys.exit(main())
