"""`plimsoll asof`: the release that answered at a time. `plimsoll provenance`: the graph of a release or data set."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from console.terminal.output import errors_reported, out, print_json, print_rows
from console.terminal.session import client
from lineage.errors import InvalidError
from lineage.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Found = dict[str, Any]
_PEOPLE = {"did": "What", "by": "By", "role": "Role", "seq": "Record", "at": "At (UTC)", "reason": "Reason"}
#: Edges from evidence to a release: shown as leaves under the release.
_EVIDENCE = ("checked", "reports_on", "decided_on")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    for command in (asof, provenance):
        app.command()(command)


def asof(
    model: str,
    at: Annotated[str | None, typer.Option(help="An instant with its zone, e.g. 2026-03-04T10:02Z.")] = None,
    seq: Annotated[int | None, typer.Option(min=1, help="A record number, in place of an instant.")] = None,
    json: Json = False,
) -> None:
    """Release, threshold and policy that answered for a model at that time, and who released them."""
    with errors_reported():
        if (at is None) == (seq is None):
            raise InvalidError("say either --at or --seq, e.g. --at 2026-03-04T10:02Z", field="at")
        answer = client(Settings()).asof(model, at=at, seq=seq)
        if json:
            print_json(answer)
        else:
            _print_answer(answer)


def provenance(
    release: Annotated[str | None, typer.Argument(help="e.g. credit-default@7")] = None,
    dataset: Annotated[str | None, typer.Option(help="Digest of a data set; shows what was made from it.")] = None,
    json: Json = False,
) -> None:
    """Origin of a release and what it answered, as a tree; or what was made from a data set."""
    with errors_reported():
        if (release is None) == (dataset is None):
            raise InvalidError("name either a release or, with --dataset, the digest of a data set", field="release")
        found = client(Settings()).provenance(release=release, dataset=dataset)
        if json:
            print_json(found)
        else:
            out.print(tree_of(found, f"release:{release}" if release else f"dataset:{dataset}"))


def sentences(answer: Found) -> list[str]:
    """An as-of answer as sentences, without the table of people's actions."""
    decided, asked = answer["decided"], answer["asked"]
    when = f"at {_time(asked['at'])} UTC" if "at" in asked else f"after record {asked['seq']}"
    if decided["mode"] == "killed":
        lines = _stopped(answer, when)
    elif decided["mode"] == "normal":
        lines = [f"{decided['release']} answered for {answer['model']} {when}, with threshold {decided['threshold']}."]
        lines.append(f"Bundle {_short(decided['digest'])}, policy {_short(decided['policy_digest'])}.")
    elif decided["baseline_of"]:
        lines = [f"The baseline of {decided['baseline_of']} answered for {answer['model']} {when}."]
        lines.append(f"Bundle {_short(decided['digest'])}, which holds its threshold.")
    else:
        lines = [f"Nobody answered for {answer['model']} {when}: nothing was registered."]
    if decided["by"]:
        lines.append(f"Decided by {_record(decided['by'])}.")
    lines += [_open(breaker) for breaker in decided["breakers"]]
    if decided["challenger"]:
        lines += _on_trial(decided["challenger"])
    return [*lines, _acknowledged(answer["acknowledged"])]


def tree_of(found: Found, root: str) -> Tree:
    """The graph as a tree: sources of the root, its evidence, and what was made from it."""
    nodes = {node["id"]: node for node in found["nodes"]}
    tree = Tree(_label(nodes[root]))
    sources = [edge for edge in found["edges"] if edge["to"] == root and edge["kind"] not in _EVIDENCE]
    if sources:
        branch = tree.add("comes from")
        for edge in sources:
            _grow(branch, found, nodes, edge["from"], backwards=True)
    if nodes[root]["kind"] == "release":
        _evidence(tree, found, nodes, root)
    onward = [edge for edge in found["edges"] if edge["from"] == root]
    if onward:
        branch = tree.add("leads to")
        for edge in onward:
            _grow(branch, found, nodes, edge["to"], backwards=False)
    return tree


def _grow(branch: Tree, found: Found, nodes: Found, name: str, *, backwards: bool) -> None:
    here = branch.add(_label(nodes[name]))
    start, end = ("to", "from") if backwards else ("from", "to")
    for edge in found["edges"]:
        if edge[start] == name and edge["kind"] not in _EVIDENCE:
            _grow(here, found, nodes, edge[end], backwards=backwards)
    if not backwards and nodes[name]["kind"] == "release":
        _evidence(here, found, nodes, name)


def _evidence(branch: Tree, found: Found, nodes: Found, release: str) -> None:
    evidence = [edge["from"] for edge in found["edges"] if edge["to"] == release and edge["kind"] in _EVIDENCE]
    if evidence:
        leaf = branch.add("what spoke for or against it")
        for name in evidence:
            leaf.add(_label(nodes[name]))


def _label(node: Found) -> Text:
    state = f" ({node['state']})" if node.get("state") else ""
    return _plain(f"{node['kind']}  {node['label']}{state}").append(f"  record {node['seq']}", style="dim")


def _print_answer(answer: Found) -> None:
    for line in sentences(answer):
        out.print(_plain(line), soft_wrap=True)
    for about in (answer["decided"], answer["decided"]["challenger"]):
        if about and about["people"]:
            out.print()
            out.print(_plain(f"How {about['release']} got there:"))
            rows = [{**step, "did": step["did"].replace("_", " "), "at": _time(step["at"])} for step in about["people"]]
            print_rows(rows, _PEOPLE, empty="")


def _stopped(answer: Found, when: str) -> list[str]:
    """Sentences on what answered under a kill switch, and who pulled it."""
    decided, model = answer["decided"], answer["model"]
    lines = [f"Nothing was answered for {model} {when}: a person had stopped it."]
    if decided["killed"] == "baseline":
        whose = f" of {decided['baseline_of']}" if decided["baseline_of"] else ""
        lines = [f"The baseline{whose} answered for {model} {when}: a person had stopped the champion."]
    for kill in decided["kills"]:
        whom = kill["of"] or "all models"
        lines.append(f"Kill switch of {whom}: pulled by {kill['by']} at {_time(kill['at'])} UTC: {kill['reason']}")
    return lines


def _open(breaker: Found) -> str:
    cause, since = breaker["cause"].replace("_", " "), _time(breaker["since"])
    where = f"On replica {breaker['replica']} the baseline answered in place of {breaker['release']}"
    return f"{where}: its breaker was open since {since} UTC ({cause})."


def _on_trial(challenger: Found) -> list[str]:
    share = f"{challenger['share']:.0%} of live traffic" if challenger["share"] else "no traffic any more"
    lines = [f"{challenger['release']} ({challenger['state']}) was on trial with {share}"]
    lines[0] += f", threshold {challenger['threshold']}, bundle {_short(challenger['digest'])}."
    return lines + ([f"Its share was decided by {_record(challenger['by'])}."] if challenger["by"] else [])


def _acknowledged(route: Found | None) -> str:
    if route is None:
        return "No replica had acknowledged any route yet."
    number = f"record {route['seq']}, route {route['version']}, {route['replicas']} replicas"
    if route["in_step"]:
        return f"Every replica had acknowledged that ({number})."
    who = {"baseline": "the baseline (killed)", "nothing": "nobody (killed)"}.get(
        route["killed"], route["champion"] or "the baseline"
    )
    trial = f", {route['challenger']} on {route['share']:.0%}" if route["challenger"] else ""
    return f"Not every replica had acknowledged that yet: the last route they all ran was {who}{trial} ({number})."


def _record(who: Found) -> str:
    reason = f": {who['reason']}" if who["reason"] else ""
    return f"record {who['seq']}, {who['kind']} by {who['by']} ({who['role']}) at {_time(who['at'])} UTC{reason}"


def _time(at: str) -> str:
    """A record's time for people, with all its decimals: `2026-11-23 10:01:00.25`."""
    return at.removesuffix("Z").rstrip("0").rstrip(".").replace("T", " ")


def _short(digest: str | None) -> str:
    return (digest or "none").removeprefix("sha256:")[:12]


def _plain(text: str) -> Text:
    # No markup and no control characters: reasons hold what people typed.
    return Text("".join(char if char.isprintable() else "�" for char in text))
