"""`plimsoll audit`: verify the record, read it, rebuild what is derived from it."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from console.terminal.output import out, print_json, print_rows, told
from console.terminal.session import client
from lineage.errors import RefusedError
from lineage.ledger import Ledger
from lineage.settings import Settings
from lineage.store import Store
from lineage.verify import verify_ledger

app = typer.Typer(no_args_is_help=True, help="The record: verify it, read it, rebuild what is derived from it.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def verify(json: Json = False) -> None:
    """Verify every record, its chain and legality, and the bytes it names. Reads files only; needs no service."""
    with told():
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
                f"head {result.head[:16]}…"
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
    with told():
        rows = client(Settings()).audit(order="newest", limit=count, kind=kind, model=model, release=release)[::-1]
        if json:
            print_json(rows)
            return
        flat = [{**row, "who": row["actor"]["name"]} for row in rows]
        columns = {"seq": "#", "at": "At", "kind": "Fact", "release": "Release", "who": "By", "reason": "Reason"}
        print_rows(flat, columns, empty="No records match.")


@app.command()
def query(
    name: Annotated[str, typer.Argument(help="e.g. lineage, lead_times, checks, drift, fairness, rollouts, segments")],
    model: str | None = None,
    release: str | None = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
) -> None:
    """Rows of a named query of the lineage store, as JSON."""
    with told():
        print_json(client(Settings()).query(name, model=model, release=release, limit=limit))


@app.command()
def rebuild(json: Json = False) -> None:
    """Rebuild the DuckDB lineage store from the log. The ledger service must be stopped."""
    settings = Settings()
    with told():
        try:
            ledger = Ledger(settings.log_folder)
        except RefusedError as refusal:
            raise RefusedError(f"{refusal.message}; the running service keeps the store in step itself") from refusal
        began = time.monotonic()
        settings.lineage_store.unlink(missing_ok=True)
        store = Store(settings.lineage_store, ledger.records)
        done: dict[str, Any] = {"records": store.count(), "seconds": round(time.monotonic() - began, 3)}
        store.close()
        ledger.close()
        if json:
            print_json(done)
        else:
            out.print(f"Rebuilt from {done['records']} records in {done['seconds']} s.")
