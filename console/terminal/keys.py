"""`plimsoll keys`: list the platform's signing keys and their eras, replace them, revoke former ones."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from console.terminal.output import errors_reported, out, print_json, print_rows
from console.terminal.session import client
from lineage.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Keys that sign the record and the bundles: list, rotate, revoke.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Why; it goes on record.")]
_COLUMNS = {"key": "key", "id": "id", "since": "from record", "until": "until", "revoked": "revoked"}
Key = Annotated[str, typer.Argument(help="`ledger` (signs checkpoints) or `bundle` (signs releases).")]


@app.command("list")
def list_(json: Json = False) -> None:
    """Every key with the records for which it signs, and from which record on it is revoked."""
    with errors_reported():
        keys = client(Settings()).keys()
        if json:
            print_json(keys)
            return
        print_rows([_row(key) for key in keys], _COLUMNS, empty="There is no key yet.")


@app.command()
def rotate(key: Key, reason: Reason, json: Json = False) -> None:
    """Replace a key by a new one. What the former key signed stays valid. For admins."""
    with errors_reported():
        record = client(Settings()).rotate_key(key, reason)
        old, new = record["data"]["old"], record["data"]["new"]
        lines = [
            f"{key} key {new['id']} is in force from record {record['seq']} on; {old['id']} signed what came before.",
            *([f"Give examiners the new key: {new['public']}"] if key == "ledger" else []),
            f"If the former one was stolen: `plimsoll keys revoke {key} {old['id']} --reason …`.",
        ]
        _say(record, lines, json)


@app.command()
def revoke(
    key: Key,
    key_id: Annotated[str, typer.Argument(help="Its id, as `plimsoll keys list` shows it.")],
    reason: Reason,
    from_record: Annotated[
        int | None, typer.Option(min=1, help="The first record for which it does not count; the next one if absent.")
    ] = None,
    distrust: Annotated[bool, typer.Option("--distrust", help="Nothing that it ever signed counts.")] = False,
    json: Json = False,
) -> None:
    """Have a former key count no longer, from a record on. For admins."""
    with errors_reported():
        known = client(Settings())
        record = known.revoke_key(key, key_id, reason, from_record=1 if distrust else from_record)
        begin = record["data"]["from_record"]
        _say(record, [f"{key} key {key_id} does not count for records from {begin} on.", *record["alerts"]], json)


def _say(record: dict[str, Any], lines: list[str], json: bool) -> None:
    if json:
        print_json(record)
        return
    for line in lines:
        out.print(line)
    if record.get("witnessed") is False:
        out.print("The witness does not answer: this is not witnessed yet.")


def _row(key: dict[str, Any]) -> dict[str, Any]:
    until = "in force" if key["until"] is None else f"to record {key['until'] - 1}"
    revoked = "" if key["revoked_from"] is None else f"revoked from record {key['revoked_from']} on"
    return {"key": key["key"], "id": key["id"], "since": key["since"], "until": until, "revoked": revoked}
