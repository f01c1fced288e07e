"""`plimsoll audit`: verify the record, read it, rebuild the lineage store."""

from __future__ import annotations

import json as json_module
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from console.terminal.output import errors_reported, out, print_json, print_missing, print_rows
from console.terminal.session import client
from lineage.errors import RefusedError
from lineage.ledger import Ledger
from lineage.log.signing_key import signer_at
from lineage.settings import Settings
from lineage.store.duckdb_store import Store
from lineage.store.rows import PERSONAL, QUERIES
from lineage.verify import verify_ledger

app = typer.Typer(no_args_is_help=True, help="The record: verify it, read it, rebuild the lineage store.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def verify(json: Json = False) -> None:
    """Verify every record, its chain and legality, and the bytes it names. Reads files only; needs no service."""
    with errors_reported():
        began = time.monotonic()
        result = verify_ledger(Settings())
        if json:
            print_json(result.to_dict() | {"seconds": round(time.monotonic() - began, 3)})
        else:
            for problem in result.problems:
                out.print(f"record {problem['record']}: {problem['problem']}")
            word = "Verified" if result.ok else "NOT verified"
            out.print(
                f"{word}: {result.records} records, {result.segments} decision segments, {result.bundles} bundles, "
                f"root {result.root[:16]}…"
            )
    raise typer.Exit(0 if result.ok else 1)


@app.command()
def tail(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1_000)] = 20,
    kind: Annotated[str | None, typer.Option(help="One kind, or several with commas.")] = None,
    model: str | None = None,
    release: str | None = None,
    json: Json = False,
) -> None:
    """The newest records."""
    with errors_reported():
        rows = client(Settings()).audit(order="newest", limit=count, kind=kind, model=model, release=release)[::-1]
        if json:
            print_json(rows)
            return
        flat = [{**row, "who": row["actor"]["name"]} for row in rows]
        columns = {"seq": "#", "at": "At", "kind": "Fact", "release": "Release", "who": "By", "reason": "Reason"}
        print_rows(flat, columns, empty="No records match.")


@app.command()
def query(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(QUERIES)}.")],
    model: str | None = None,
    release: str | None = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339 with its zone, e.g. 2026-03-04T10:02Z.")] = None,
    until: Annotated[str | None, typer.Option(help="As --since; included.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    reason: Annotated[
        str | None, typer.Option("--reason", "-r", help="Why, for decisions and outcomes; it goes on record.")
    ] = None,
) -> None:
    """Rows of a named query of the lineage store, as JSON.

    `decisions` and `outcomes` are about customers: who looks at them, and why, goes on record first. Segments that
    could hold more rows and cannot be used are named on stderr.
    """
    if name in PERSONAL and reason is None:
        reason = typer.prompt("Why do you look at them? (on record; without a name)", err=True)
    with errors_reported():
        filters = {"model": model, "release": release, "since": since, "until": until, "offset": offset or None}
        found = client(Settings()).answer(name, reason=reason, limit=limit, **filters)
        print_missing(found["missing_segments"])
        print_json(found["rows"])


@app.command()
def checkpoint(
    cosigned: Annotated[bool, typer.Option(help="The newest one that the witness cosigned.")] = False,
) -> None:
    """The newest checkpoint as a signed note. Kept elsewhere, it proves the record up to its size."""
    with errors_reported():
        sys.stdout.write(client(Settings()).checkpoint(cosigned=cosigned))


@app.command()
def prove(
    record: Annotated[int, typer.Argument(min=1, help="Its number.")],
    to: Annotated[Path | None, typer.Option(help="Write the proof to this file.")] = None,
) -> None:
    """Print one record with its proof, as JSON: `verify.py record` checks it on any machine."""
    with errors_reported():
        bundle = client(Settings()).proof(record)
        if to is None:
            print_json(bundle)
        else:
            to.write_text(json_module.dumps(bundle, indent=1) + "\n")
            out.print(
                f"Record {record}: {len(bundle['proof'])} hashes lead to the checkpoint of {bundle['size']} → {to}"
            )


@app.command()
def verifier(
    to: Annotated[Path, typer.Option(help="Where to put it.")] = Path("verify.py"),
) -> None:
    """Copy the independent verifier: one file without dependencies, for an examiner to read and run."""
    with errors_reported():
        to.write_bytes(resources.files("lineage.examiner").joinpath("verify.py").read_bytes())
        out.print(f"{to}: run `python {to} log {Settings().log_folder}`")


@app.command()
def rebuild(json: Json = False) -> None:
    """Rebuild the DuckDB lineage store from the log: by the ledger service if it runs, else in this process."""
    with errors_reported():
        settings = Settings()
        done = _rebuild_here(settings) or client(settings).rebuild_store()
        if json:
            print_json(done)
        else:
            out.print(f"Rebuilt from {done['records']} records in {done['seconds']} s.")


def _rebuild_here(settings: Settings) -> dict[str, Any] | None:
    """Rebuild in this process: `{"records", "seconds"}`, or None where a service has the log open."""
    try:
        ledger = Ledger(settings.log_folder, signer=signer_at(settings.log_key))
    except RefusedError:
        return None
    try:
        began = time.monotonic()
        store = Store(settings.lineage_store, ledger.records, decisions=settings.decisions)
        store.rebuild(ledger.records)
        done = {"records": store.count(), "seconds": round(time.monotonic() - began, 3)}
        store.close()
        return done
    finally:
        ledger.close()
