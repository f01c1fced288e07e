"""`plimsoll decision`: show or replay one decision. `plimsoll erase`, `hold`, `release-hold`: rights of a person."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from console.terminal.output import errors_reported, out, print_json, print_missing, print_rows
from console.terminal.session import client
from lineage.errors import InvalidError
from lineage.settings import Settings

app = typer.Typer(no_args_is_help=True, help="One decision: show it, replay it bit for bit.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[
    str, typer.Option("--reason", "-r", help="Why, in a sentence that does not name the person; it goes on record.")
]
WhyRead = Annotated[
    str,
    typer.Option(
        "--reason",
        "-r",
        prompt="Why do you look at it? (on record; without a name)",
        help="Why it is looked at, in a sentence that does not name the person; it goes on record.",
    ),
]
Subject = Annotated[
    str, typer.Argument(help="The customer's key, or - to read it from standard input and leave it in no history.")
]
_SHOWN = ("at", "release", "digest", "role", "purpose", "decision", "score", "score_hex", "threshold", "fallback")


def register(root: typer.Typer) -> None:
    """Add these commands to the application."""
    root.add_typer(app, name="decision")
    for command in (erase, hold, release_hold):
        root.command()(command)


@app.command()
def show(decision_id: str, reason: WhyRead, json: Json = False) -> None:
    """Show one decision: the answer, its release, who released that, and the record that proves it.

    That it was looked at, by whom and why, goes on record first.
    """
    with errors_reported():
        found = client(Settings()).decision(decision_id, reason)
        print_missing(found["missing_segments"])
        if json:
            print_json(found)
        else:
            _print(found)


@app.command()
def replay(decision_id: str, reason: WhyRead, json: Json = False) -> None:
    """Recompute score, decision and reasons from record and artefacts. Exit status 1 unless all bits are equal.

    That the decision was looked at, by whom and why, goes on record first.
    """
    from validators.replay import replay as replayed  # the models' libraries take a second

    with errors_reported():
        settings = Settings()
        result = replayed(client(settings).decision(decision_id, reason), settings)
        if json:
            print_json(result.to_dict())
        elif result.grade is None:
            out.print(f"Cannot be replayed: {result.release} ({result.scorer}).")
            for one in result.missing:
                out.print(f"  missing {one['what']}: {one['why']}", soft_wrap=True, markup=False)
        else:
            out.print(f"{result.grade}: {result.release} ({result.scorer}), bundle {result.digest[:19]}…")
            for line in result.differences:
                out.print(f"  {line}", soft_wrap=True, markup=False)
    raise typer.Exit(0 if result.ok else 1)


@app.command()
def history(subject: Subject, reason: Reason, json: Json = False) -> None:
    """Every decision about one person, the oldest first. That it was looked at, by whom and why, goes on record."""
    with errors_reported():
        found = client(Settings()).subject_history(_named(subject), reason)
        rows = found["decisions"]
        print_missing(found["missing_segments"])
        if json:
            print_json(rows)
            return
        columns = {"at": "At", "decision_id": "Decision", "release": "Release", "decision": "Answer", "score": "Score"}
        print_rows(rows, columns, empty="No decision about this person can be found.")


def erase(
    subject: Subject,
    reason: Reason,
    identity_verified: Annotated[
        bool, typer.Option("--identity-verified", help="The identity of the person who asks was verified.")
    ] = False,
    json: Json = False,
) -> None:
    """Destroy the key of everything that was decided about one person. It cannot be undone."""
    with errors_reported():
        record = client(Settings()).erase(_named(subject), reason, identity_verified=identity_verified)
        if json:
            print_json(record)
        else:
            _print_erasure(record)


def hold(subject: Subject, reason: Reason, json: Json = False) -> None:
    """Forbid the erasure of one person, e.g. while a court or a regulator wants the records."""
    with errors_reported():
        record = client(Settings()).hold(_named(subject), reason)
        _print_result(record, f"Nothing about this person can be erased (record {record['seq']}).", json)


def release_hold(subject: Subject, reason: Reason, json: Json = False) -> None:
    """Allow the erasure of one person again."""
    with errors_reported():
        record = client(Settings()).release_hold(_named(subject), reason)
        _print_result(
            record, f"The hold of record {record['data']['placed']} is released (record {record['seq']}).", json
        )


def _named(subject: str) -> str:
    name = sys.stdin.read().rstrip("\n") if subject == "-" else subject
    if not name:
        raise InvalidError("subject is empty; expected the key of one customer", field="subject")
    return name


def _print_result(record: dict[str, Any], line: str, json: bool) -> None:
    if json:
        print_json(record)
    else:
        out.print(line)


def _print(found: dict[str, Any]) -> None:
    subject, evidence, released = found["subject"], found["evidence"], found["released"] or {}
    rows = [{"name": name, "value": _plain(found[name])} for name in ("decision_id", *_SHOWN)]
    rows += [{"name": f"route version {found['route_version']}", "value": _steps(released)}]
    rows += [{"name": "about the person", "value": subject.get("why") or subject["standing"]}]
    if subject.get("features") is not None:
        rows += [
            {"name": "customer", "value": subject["key"]},
            {"name": "reasons", "value": _plain(subject["reasons"])},
        ]
        rows += [{"name": f"  {name}", "value": _plain(value)} for name, value in (subject["named"] or {}).items()]
    rows += [{"name": "outcome", "value": _plain(one["outcome"])} for one in found["outcomes"][:1]]
    where = evidence["state"]
    if where == "sealed":
        where = f"segment {evidence['segment']}, record {evidence['record']}, proof {evidence['proof']}"
    print_rows([*rows, {"name": "evidence", "value": where}], {"name": "Field", "value": "Value"}, empty="")


def _steps(released: dict[str, Any]) -> str:
    by = released.get("by")
    if by is None:
        return ""
    approved = ", ".join(one["by"] for one in released["approvals"] if one["decision"] == "approve")
    released_by = f"{by['kind']} by {by['actor']} (record {by['seq']}), trained by {released['author']}"
    return released_by + (f", approved by {approved}" if approved else "")


def _print_erasure(record: dict[str, Any]) -> None:
    data, touched = record["data"], record["touched"]
    out.print(
        f"Erased (record {record['seq']}). {data['decisions']} decisions in {data['segments']} sealed segments "
        "can no longer be linked to a person; the record verifies as before."
    )
    if data["plain"]:
        out.print(f"{data['plain']} decisions were sealed before there were keys and stay readable.")
    for one in (touched or {}).get("datasets", []):
        rows = f"{one['rows']} rows" if one["rows"] is not None else f"cannot be read: {one['unreadable']}"
        out.print(f"  data set {one['dataset']} version {one['version']}: {rows}", soft_wrap=True, markup=False)
    if touched and touched["trained_on"]:
        out.print(f"  trained on them: {', '.join(touched['trained_on'])}")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return "" if value is None else str(value)
