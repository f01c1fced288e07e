"""`plimsoll kill` and `plimsoll kill-release`: one person stops, two let go. `plimsoll shadow`, `plimsoll models`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from console import safety_text
from console.terminal.output import errors_reported, out, plain, print_json, print_rows
from console.terminal.session import client
from lineage.errors import InvalidError, PlimsollError
from lineage.settings import Settings
from lineage.state.entities import ModelSummary
from lineage.state.safety import Kill
from lineage.state.views import ModelsPage, models_view
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
        found, kill_of_all = known.models(), known.killed()["kill"]
        if json:
            print_json({"kill": kill_of_all, "models": found})
            return
        page = _page(found, kill_of_all)
        for line in stop_lines(replace(page, models=[])):
            out.print(plain(line, "bold red"), soft_wrap=True)
        rows = [row(model, page.kill) for model in page.models]
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
        whose, what = name or safety_text.ALL, {"baseline": "the baseline answers", "nothing": "nothing is answered"}
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
            asked = f"{name or safety_text.ALL}: release asked for (record {record['seq']}); still killed."
            _say(record, [asked, then], json)
            return
        record = known.release_kill(name, reason)
        lines = [f"{name or safety_text.ALL}: released (record {record['seq']}), as the second person."]
        _say(record, [*lines, *stop_lines(_models(known))], json)


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


def row(model: ModelSummary, kill_of_all: Kill | None) -> Found:
    """A model as a row of the listing."""
    trial = f"{model.challenger} at {model.share:.0%}" if model.challenger else None
    shadow = f"{model.shadow} in the shadow" if model.shadow else None
    notes = [f"{safety_text.killed(model.kill)}. {safety_text.waiting(model.kill)}"] if model.kill else []
    notes += [f"breaker open, {text}" for text in safety_text.breakers(model.breakers)]
    shown = {"model": model.model, "champion": model.champion, "answers": safety_text.who_answers(model, kill_of_all)}
    return shown | {"beside": trial or shadow, "note": "; ".join(notes)}


def stop_lines(page: ModelsPage) -> list[str]:
    """What is stopped, and by whom, a line each; breakers after switches."""
    pulled = safety_text.switches(page.kill, page.models)
    lines = [f"{whose}: {safety_text.killed(kill)}. {safety_text.waiting(kill)}" for whose, kill in pulled]
    for model in sorted(page.models, key=lambda one: one.model):
        lines += [f"{model.model}: breaker open, {text}." for text in safety_text.breakers(model.breakers)]
    return lines


def known_stops(settings: Settings) -> list[str] | None:
    """What is stopped, a line each; None where nobody is signed in or the ledger does not say."""
    try:
        return stop_lines(_models(client(settings)))
    except (PlimsollError, Error):
        return None


def show_stops(lines: list[str] | None) -> None:
    """Print them; where they cannot be known, how to know."""
    if lines is None:
        out.print("Whether a model is killed is shown only after a sign-in: `plimsoll login NAME`.")
    for line in lines or ():
        out.print(plain(line, "bold red"), soft_wrap=True)


def _models(known: Client) -> ModelsPage:
    return _page(known.models(), known.killed()["kill"])


def _page(models: Found, kill_of_all: Found | None) -> ModelsPage:
    return models_view({"models": list(models.values()), "total": len(models), "kill": kill_of_all})


def _named(model: str | None, all_: bool) -> str | None:
    if (model is None) != all_:
        raise InvalidError("name one model, or say --all for every model", field="model")
    return model


def _confirm(model: str | None, answer: str) -> None:
    word, whose = (model, model) if model is not None else ("ALL", safety_text.ALL)
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
