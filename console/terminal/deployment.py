"""`plimsoll scale` and `plimsoll redeploy`: change the serving processes without losing a request."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Annotated, Any

import orjson
import typer

from console.terminal import processes, up
from console.terminal.output import err, errors_reported, out, print_json
from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.cluster.ray_settings import ray_client_environment

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("scale")(scale_command)
    app.command("redeploy")(redeploy_command)


def scale_command(
    replicas: Annotated[int, typer.Argument(min=1, max=64, help="Gateway replicas until the next `plimsoll up`.")],
    json: Json = False,
) -> None:
    """Change the number of gateway replicas; returns when each runs the newest routes. No request is lost."""
    with errors_reported():
        done = change(Settings(), _report, "--replicas", str(replicas))
        if json:
            print_json(done)
        else:
            out.print(f"{done['replicas']} gateway replicas after {done['seconds']} s.")


def redeploy_command(json: Json = False) -> None:
    """Replace feature reader, challenger pool, gateway replicas and controller by new processes, one after another.

    New processes run the code that is installed now. Old ones answer until the new ones do.
    """
    with errors_reported():
        done = change(Settings(), _report, "--renew")
        if json:
            print_json(done)
        else:
            out.print(f"All replaced after {done['seconds']} s.")


def change(settings: Settings, report: Callable[[str], None], *arguments: str) -> dict[str, Any]:
    """Run `python -m serve.cluster.deploy` with these arguments; `{"replicas", "seconds"}`.

    Raises:
        UnavailableError: this platform does not run, or the deployment failed.
    """
    if not up.status(settings)["supervised"]:
        raise UnavailableError("nothing is running; `plimsoll up` starts it")
    command = [sys.executable, "-m", "serve.cluster.deploy", *arguments]
    environment = processes.marked(settings, ray_client_environment(settings))
    with subprocess.Popen(
        command, env=environment, cwd=settings.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  for the type checker, as the next
        assert process.stderr is not None  # noqa: S101
        last = ""
        for line in process.stderr:  # the last line of a failure is its reason
            if last:
                report(last)
            last = line.rstrip()
        result = process.stdout.read()
    if process.returncode:
        raise UnavailableError(last or f"the deployment ended with exit status {process.returncode}")
    if last:
        report(last)
    done: dict[str, Any] = orjson.loads(result)
    return done


def _report(line: str) -> None:
    err.print(f"  {line}")
