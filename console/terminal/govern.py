"""Commands of the release life cycle: train, canary, review, promote, abort, roll back, decide."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from console.terminal.output import errors_reported, out, print_json, print_rows
from console.terminal.session import client
from lineage.errors import InvalidError
from lineage.settings import Settings

Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, in a sentence; it goes on record.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    for command in (releases, release, actions, train, canary, review, promote, abort, rollback, decide):
        app.command()(command)


def releases(model: Annotated[str | None, typer.Argument()] = None, json: Json = False) -> None:
    """Releases, newest first."""
    with errors_reported():
        rows = client(Settings()).releases(model)
        if json:
            print_json(rows)
            return
        columns = {
            "release": "Release",
            "state": "State",
            "share": "Share",
            "author": "Author",
            "trained_at": "Trained",
        }
        print_rows(rows, columns, empty="No releases yet. `plimsoll train MODEL_FOLDER --reason …` makes the first.")


def release(release: str) -> None:
    """Everything on record about one release, as JSON."""
    with errors_reported():
        print_json(client(Settings()).release(release))


def actions(
    subject: Annotated[str | None, typer.Argument(help="A release or a model; all models when absent.")] = None,
    json: Json = False,
) -> None:
    """Actions on a release or a model that you may take now by the ledger's rules, and why not the others."""
    with errors_reported():
        found = client(Settings()).actions(subject)
        if json:
            print_json(found)
            return
        rows = [_action_row(action) for action in found if action["applies"]]
        columns = {"verb": "Action", "now": "Now", "who": "Roles"}
        print_rows(rows, columns, empty="Nothing can be done in this state.")


def _action_row(action: dict[str, Any]) -> dict[str, Any]:
    share = f", {action['next_share']:.0%} of live traffic" if action["next_share"] else ""
    now = f"possible{share}" if action["possible"] else action["why_not"]
    return {"verb": action["verb"], "now": now, "who": ", ".join(action["roles"])}


def train(
    folder: Annotated[Path, typer.Argument(help="Model folder, e.g. examples/credit_default.")],
    reason: Reason,
    model: Annotated[str, typer.Option(help="Model name; taken from model.toml when absent.")] = "",
    trials: Annotated[int | None, typer.Option(min=1, max=1_000, help="Search trials.")] = None,
    json: Json = False,
) -> None:
    """Request a training run; the controller starts it as a Ray job."""
    with errors_reported():
        name = model or _model_of(folder)
        options = {} if trials is None else {"trials": trials}
        record = client(Settings()).retrain(name, str(folder.resolve()), reason, options=options)
        _print_result(record, f"Training of {name} requested (record {record['seq']}).", json)


def canary(release: str, reason: Reason, json: Json = False) -> None:
    """Give a registered release its first share of live traffic."""
    with errors_reported():
        record = client(Settings()).canary(release, reason)
        _print_result(record, f"{release} takes {record['data']['share']:.0%} of live traffic.", json)


def review(
    release: str,
    decision: Annotated[str, typer.Argument(help="approve or reject")],
    reason: Reason,
    json: Json = False,
) -> None:
    """Approve or reject a release in review; never one's own."""
    with errors_reported():
        record = client(Settings()).review(release, decision, reason)
        _print_result(record, f"{release}: {decision} recorded (record {record['seq']}).", json)


def promote(release: str, reason: Reason, json: Json = False) -> None:
    """Begin the rollout of an approved release."""
    with errors_reported():
        record = client(Settings()).promote(release, reason)
        _print_result(record, f"{release} takes {record['data']['share']:.0%}; the controller does the rest.", json)


def abort(release: str, reason: Reason, json: Json = False) -> None:
    """Take a release out of traffic and quarantine it."""
    with errors_reported():
        _print_result(client(Settings()).abort(release, reason), f"{release} is quarantined.", json)


def rollback(
    model: str,
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="A release, or `baseline`; the previous champion when absent.")] = None,
    json: Json = False,
) -> None:
    """Return to the previous champion at once."""
    with errors_reported():
        record = client(Settings()).rollback(model, reason, to=to)
        _print_result(record, f"{record['release']} steps down; {record['data']['to']} answers.", json)


def decide(
    model: str,
    key: Annotated[str, typer.Option(help="The customer's key.")],
    features: Annotated[str, typer.Option(help="JSON object of features, or - to read it from standard input.")] = "-",
) -> None:
    """Ask for one decision, as JSON."""
    with errors_reported():
        text = sys.stdin.read() if features == "-" else features
        try:
            values = json_module.loads(text)
        except ValueError as error:
            raise InvalidError(f"features are not JSON: {error}", field="features") from error
        answer = client(Settings()).decide(model, values, key=key)
        print_json(vars(answer))


def _print_result(record: dict[str, Any], line: str, json: bool) -> None:
    if json:
        print_json(record)
    else:
        out.print(line)


def _model_of(folder: Path) -> str:
    from training.spec import load_spec

    return load_spec(folder).model.name
