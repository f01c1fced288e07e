"""`plimsoll features`: fill a model's online store for decisions by entity; show the age of its data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from console.terminal.output import errors_reported, out, print_json, print_rows
from lineage.clock import instant, now
from lineage.errors import UnavailableError
from lineage.settings import Settings
from validators.scoring.feature_origin import MATERIALIZED
from validators.scoring.online_store import run_in_utc

app = typer.Typer(no_args_is_help=True, help="Features by entity: fill the online store, show its age.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_COLUMNS = {
    "model": "Model",
    "service": "Feature service",
    "rows": "Rows",
    "version": "Data version",
    "age": "Age",
    "state": "Freshness",
}


def register(root: typer.Typer) -> None:
    """Add these commands to the application."""
    root.add_typer(app, name="features")


@app.command("materialize")
def materialize_command(
    folder: Annotated[Path, typer.Argument(help="The model folder, with model.toml.")],
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Time at which the rows were true, e.g. 2026-03-04T10:02Z; when absent, the time of pinning."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Put the newest pinned rows into the online store and read all of them back."""
    from training.materialize import materialize, read_moment  # Feast takes seconds
    from training.progress import Progress
    from training.spec import load_spec

    run_in_utc()
    with errors_reported():
        done = materialize(load_spec(folder), Settings(), Progress(sys.stderr), as_of=read_moment(as_of))
        if json:
            print_json(done.to_dict())
        else:
            until = f"fresh until {done.fresh_until}" if done.fresh_until else "fresh without limit"
            out.print(f"{done.model}: {done.rows:,} rows as of {done.as_of}, {until}. {done.seconds:.1f} s")


@app.command("status")
def status_command(json: Json = False) -> None:
    """Content of the online stores, its age and whether it is fresh."""
    with errors_reported():
        found = known(Settings())
        if json:
            print_json(found)
        else:
            print_rows(found, _COLUMNS, empty="Nothing yet. `plimsoll features materialize FOLDER` fills a store.")


def known(settings: Settings) -> list[dict[str, Any]]:
    """The last materialization of each model, with its age and whether it is fresh.

    Raises:
        UnavailableError: a file of a materialization cannot be read.
    """
    rows = []
    for path in sorted(settings.root.glob(f"feast/*/{MATERIALIZED}")):
        try:
            noted: dict[str, Any] = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise UnavailableError(f"cannot read {path}: {error}; materialize the model again") from error
        age = (now() - instant(noted["as_of"])).total_seconds()
        until = noted["fresh_until"]
        state = "no limit" if until is None else "fresh" if now() <= instant(until) else "too old"
        rows.append(noted | {"age_seconds": round(age, 3), "age": _age_text(age), "state": state})
    return rows


def _age_text(seconds: float) -> str:
    days, hours = divmod(int(seconds) // 3600, 24)
    return f"{days} d {hours} h" if days else f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"
