"""MLServer with the bare model: an environment of its own, made once, and the folder that it serves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import xgboost

VERSION = "1.7.1"
NAME = "bare"
_MOST_PYTHON = (3, 12)


class NotInstalled(Exception):
    """MLServer cannot be installed here; the message says why."""


def command_in(folder: Path, model: Path, port: int, spare: tuple[int, int]) -> list[str]:
    """Write MLServer's settings and the model into `folder`; return the command that serves it.

    Args:
        spare: free ports for gRPC and metrics, which are not used.

    Raises:
        NotInstalled: MLServer cannot be installed here.
    """
    server = _environment() / "bin" / "mlserver"
    folder.mkdir()
    shutil.copy(model, folder / "model.ubj")
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": spare[0], "metrics_port": spare[1]}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0, "debug": False}))
    described = {"implementation": "mlserver_xgboost.XGBoostModel", "parameters": {"uri": "./model.ubj"}}
    (folder / "model-settings.json").write_text(json.dumps({"name": NAME, **described}))
    return [str(server), "start", str(folder)]


def _environment() -> Path:
    """The virtual environment, in the cache folder of this machine."""
    python = _python()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / f"plimsoll-peers-{os.getuid()}"
    place = cache / f"mlserver-{VERSION}-xgboost-{xgboost.__version__}-{python.parent.parent.name}"
    if (place / "complete").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    packages = [f"mlserver=={VERSION}", f"mlserver-xgboost=={VERSION}", f"xgboost=={xgboost.__version__}"]
    _run([uv, "venv", "--quiet", "--python", str(python), str(place)])
    _run([uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python"), *packages])
    (place / "complete").touch()
    return place


def _python() -> Path:
    """A Python that MLServer supports: this one, or one of pyenv's."""
    if sys.version_info[:2] <= _MOST_PYTHON:
        return Path(sys.base_prefix) / "bin" / "python3"
    pyenv = shutil.which("pyenv")
    root = Path(subprocess.check_output([pyenv, "root"], text=True).strip()) if pyenv else None
    found = sorted(root.glob("versions/3.1[12].*/bin/python3")) if root else []
    if not found:
        raise NotInstalled("MLServer takes Python 3.12 at most, and no such interpreter was found")
    return found[-1]


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        output = str(getattr(error, "stderr", "") or error).strip()
        raise NotInstalled(f"MLServer could not be installed: {output[-300:]}") from error
