"""The `plimsoll` command: its verbs are those of the console, the Python client and the record."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from typing import Annotated

import typer

from console.terminal import (
    accounts,
    audit,
    backup,
    decision,
    demo,
    deployment,
    doctor,
    dossier,
    features,
    govern,
    keys,
    lookup,
    session,
    stop,
    up,
)
from console.terminal.output import err, errors_reported, out, print_json
from lineage.private_folders import close_to_others
from lineage.settings import Settings
from plimsoll.wire import Wire
from serve.cluster.ray_settings import ray_environment

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="The load line for models: retrain, release and operate regulated models, on a record that can be verified.",
)
app.add_typer(audit.app, name="audit")
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
_RAY_VARIABLES = (
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    "RAY_USAGE_STATS_ENABLED",
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("up")
def up_command(json: Json = False) -> None:
    """Start ledger, Ray, gateway, controller and console; return when all are ready, or stop them when one fails."""
    with errors_reported():
        settings = Settings()
        created: dict[str, str] = {}

        def keep_passwords(passwords: dict[str, str]) -> None:
            created.update(passwords)
            if not json:
                print_passwords(passwords)

        try:
            started = up.up(settings, lambda line: err.print(f"  {line}"), on_new_accounts=keep_passwords)
        except BaseException:  # also Ctrl-C: the passwords of new accounts exist nowhere else
            if json and created:
                print_json({"passwords": created})
            raise
        if json:
            print_json({"seconds": started.seconds, "passwords": created, "services": started.services})
            return
        up.show(out, {"services": started.services})
        word = "was ready already" if started.already else f"ready after {started.seconds:.1f} s"
        out.print(f"Plimsoll {word}. Console: {settings.console_url}   Decisions: {settings.gateway_url}")


def print_passwords(passwords: dict[str, str]) -> None:
    """Print the passwords of new accounts. They are not stored: this is the only time."""
    out.print("New accounts; passwords are shown once; `plimsoll accounts password` sets another:")
    for name, password in passwords.items():
        out.print(f"  {name:<12} {password}", markup=False)


@app.command("down")
def down_command(json: Json = False) -> None:
    """Stop everything that belongs to this PLIMSOLL_HOME, also what a crash left behind."""
    with errors_reported():
        count = up.down(Settings())
        if json:
            print_json({"ended": count})
        else:
            out.print(f"Stopped; {count} processes ended.")


@app.command("status")
def status_command(json: Json = False) -> None:
    """State of the services, and what is killed. Exit status 1 when not all services are ready."""
    with errors_reported():
        unsafe = Settings().unsafe
        view = up.status(Settings()) | {"stopped": stop.known_stops(Settings()), "unsafe": unsafe}
        if json:
            print_json(view)
        elif not view["supervised"]:
            out.print("Nothing is running. `plimsoll up` starts it.")
        else:
            up.show(out, view)
            stop.show_stops(view["stopped"])
            for what, detail in unsafe.items():
                out.print(f"UNSAFE: {what}: {detail}")
    raise typer.Exit(0 if view["ready"] else 1)


@app.command("env")
def env_command() -> None:
    """Print the variables a shell needs to reach this Ray, e.g. for `ray job submit`: eval "$(plimsoll env)"."""
    with errors_reported():
        settings = Settings()
        ours = ray_environment(settings)
        values = {name: ours[name] for name in _RAY_VARIABLES} | {"RAY_API_SERVER_ADDRESS": settings.ray_dashboard_url}
        for name, value in values.items():
            out.print(f"export {name}={shlex.quote(value)}", soft_wrap=True)


@app.command("doctor")
def doctor_command(json: Json = False) -> None:
    """Check machine, services and record; print faults with their fix. Exit status 1 when there is one."""
    with errors_reported():
        found = doctor.examine(Settings())
        if json:
            print_json([finding.to_dict() for finding in found])
        else:
            doctor.show(found)
    raise typer.Exit(0 if all(finding.ok for finding in found) else 1)


@app.command("demo")
def demo_command(
    leave: Annotated[bool, typer.Option("--exit", help="Stop everything after the summary.")] = False,
    folder: Annotated[str, typer.Option(help="Model folder to run it on.")] = demo.FOLDER,
) -> None:
    """Run the whole life cycle on real data: train, validate, register, canary, review, promote, monitor, roll back."""
    with errors_reported():
        ok = demo.run(Settings(), folder, leave=leave)
    raise typer.Exit(0 if ok else 1)


@app.command("login")
def login_command(
    name: str,
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, envvar="PLIMSOLL_PASSWORD")],
) -> None:
    """Sign in; later commands act as this person."""
    with errors_reported():
        settings = Settings()
        wire = Wire(settings.ledger_url)
        known = {"name": name, "password": password, "device": session.device(settings, name)}
        opened = wire.send("POST", "/v1/session", json=known).json()
        session.save(settings, opened)
        out.print(f"Signed in as {opened['name']} ({', '.join(opened['roles'])}) until {opened['expires_at']}.")


@app.command("logout")
def logout_command() -> None:
    """Sign out."""
    with errors_reported():
        settings = Settings()
        Wire(settings.ledger_url, session.token(settings)).send("DELETE", "/v1/session")
        session.delete(settings)
        out.print("Signed out.")


@app.command("version")
def version_command() -> None:
    """Print the version."""
    out.print(version("plimsoll"))


for commands in (deployment, govern, stop, decision, lookup, dossier, backup, features):
    commands.register(app)


def main() -> None:
    """Entry point."""
    close_to_others()
    app()
