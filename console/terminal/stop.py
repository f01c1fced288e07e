"""`plimsoll kill` and `plimsoll kill-release`: one person stops, two let go. `plimsoll shadow`, `plimsoll models`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from console import safety_text as stops
from console.terminal.output import errors_reported, out, plain, print_json, print_rows
from console.terminal.session import client
from lineage.errors import InvalidError, PlimsollError
from lineage.settings import Settings
from plimsoll import Client
from plimsoll.errors import Error

Found = dict[str, Any]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, in a sentence; it goes on record.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str | None, typer.Argument(help="The model; or --all.")]
All = Annotated[bool, typer.Option("--all", help="Every model, also those that come later.")]
shadow_app = typer.Typer(no_args_is_help=True, help="Let a release score copies of live requests, unused.")
_COLUMNS = {"model": "Model", "champion": "Champion", "answers": "Answers now", "beside": "Beside it", "note": "Note"}


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(models)
    app.command()(kill)
    app.command("kill-release")(kill_release)
    app.add_typer(shadow_app, name="shadow")


def models(json: Json = False) -> None:
    """Models: who answers now, what is killed, which breakers are open, what runs beside the champion."""
    with errors_reported():
        known = client(Settings())
        found, everybody = known.models(), known.killed()["kill"]
        if json:
            print_json({"kill": everybody, "models": found})
            return
        for line in stop_lines({"kill": everybody, "models": {}}):
            out.print(plain(line, "bold red"), soft_wrap=True)
        rows = [row(found[name], everybody) for name in sorted(found)]
        print_rows(rows, _COLUMNS, empty="No models yet. `plimsoll train MODEL_FOLDER --reason …` makes the first.")


def kill(
    reason: Reason,
    model: Model = None,
    all_: All = False,
    answer: Annotated[str, typer.Option(help="What customers get meanwhile: `baseline` or `nothing`.")] = "baseline",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the name again.")] = False,
    json: Json = False,
) -> None:
    """Stop a model, or all, at once: the baseline answers, or nothing. It stays so until two people let go."""
    with errors_reported():
        name = _named(model, all_)
        if answer not in ("baseline", "nothing"):
            raise InvalidError(f"answer is {answer!r}; expected `baseline` or `nothing`", field="answer")
        if not yes:
            _confirm(name, answer)
        record = client(Settings()).kill(name, reason, answer=answer)
        whose, what = name or stops.ALL, {"baseline": "the baseline answers", "nothing": "nothing is answered"}
        then = f"`plimsoll kill-release {name or '--all'} --reason …` asks for its release; a second person confirms."
        _say(record, [f"{whose}: killed (record {record['seq']}); {what[answer]}.", then], json)


def kill_release(reason: Reason, model: Model = None, all_: All = False, json: Json = False) -> None:
    """Let go of what was killed: the first person asks, a second one confirms."""
    with errors_reported():
        name = _named(model, all_)
        known = client(Settings())
        if _pulled(known, name).get("asked_seq") is None:
            record = known.ask_kill_release(name, reason)
            then = f"A second person has to confirm: `plimsoll kill-release {name or '--all'} --reason …`."
            _say(
                record, [f"{name or stops.ALL}: release asked for (record {record['seq']}); still killed.", then], json
            )
            return
        record = known.release_kill(name, reason)
        lines = [f"{name or stops.ALL}: released (record {record['seq']}), as the second person."]
        _say(record, [*lines, *stop_lines(_state(known))], json)


@shadow_app.command("start")
def shadow_start(release: str, reason: Reason, json: Json = False) -> None:
    """Let a registered release score copies of live requests; nothing of it is used."""
    with errors_reported():
        record = client(Settings()).start_shadow(release, reason)
        _say(record, [f"{release} scores copies of live requests (record {record['seq']})."], json)


@shadow_app.command("stop")
def shadow_stop(release: str, reason: Reason, json: Json = False) -> None:
    """End that."""
    with errors_reported():
        record = client(Settings()).stop_shadow(release, reason)
        _say(record, [f"{release} scores no copies any more (record {record['seq']})."], json)


def row(model: Found, everybody: Found | None) -> Found:
    """A model as a row of the listing."""
    trial = f"{model['challenger']} at {model['share']:.0%}" if model["challenger"] else None
    shadow = f"{model['shadow']} in the shadow" if model["shadow"] else None
    notes = [f"{stops.killed(model['kill'])}. {stops.waiting(model['kill'])}"] if model["kill"] else []
    notes += [f"breaker open, {text}" for text in stops.breakers(model)]
    told = {"model": model["model"], "champion": model["champion"], "answers": stops.who_answers(model, everybody)}
    return told | {"beside": trial or shadow, "note": "; ".join(notes)}


def stop_lines(state: Found) -> list[str]:
    """What is stopped, and by whom, a line each; breakers after switches."""
    lines = [f"{whose}: {stops.killed(kill)}. {stops.waiting(kill)}" for whose, kill in stops.switches(state)]
    for name, model in sorted(state["models"].items()):
        lines += [f"{name}: breaker open, {text}." for text in stops.breakers(model)]
    return lines


def known_stops(settings: Settings) -> list[str] | None:
    """What is stopped, a line each; None where nobody is signed in or the ledger does not say."""
    try:
        return stop_lines(_state(client(settings)))
    except (PlimsollError, Error):
        return None


def show_stops(lines: list[str] | None) -> None:
    """Print them; where they cannot be known, how to know."""
    if lines is None:
        out.print("Whether a model is killed is told to whoever is signed in: `plimsoll login NAME`.")
    for line in lines or ():
        out.print(plain(line, "bold red"), soft_wrap=True)


def _state(known: Client) -> Found:
    return {"kill": known.killed()["kill"], "models": known.models()}


def _named(model: str | None, all_: bool) -> str | None:
    if (model is None) != all_:
        raise InvalidError("name one model, or say --all for every model", field="model")
    return model


def _confirm(model: str | None, answer: str) -> None:
    word, whose = (model, model) if model is not None else ("ALL", stops.ALL)
    gets = "the baseline answers" if answer == "baseline" else "customers get no answer"
    question = f"Kill {whose}: {gets} until two people let go. Type {word} to go on"
    typed = typer.prompt(question, err=True)
    if typed.strip() != word:
        raise InvalidError(f"you typed {typed.strip()!r:.60}, not {word}; nothing was stopped", field="model")


def _pulled(known: Client, model: str | None) -> Found:
    view = known.killed()
    found: Found | None = view["kill"] if model is None else view["models"].get(model)
    return found or {}


def _say(record: Found, lines: list[str], json: bool) -> None:
    if json:
        print_json(record)
        return
    for line in lines:
        out.print(plain(line), soft_wrap=True)
