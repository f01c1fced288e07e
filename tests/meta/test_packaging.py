"""Names, locks and environments: the installed packages are those that are tested."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lineage", "validators", "training", "serve", "console", "plimsoll")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_owns_our_names(package: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(package, ()))
    assert owners <= {"plimsoll"}


def test_conda_users_get_the_pins_of_the_lock() -> None:
    command = [sys.executable, ".ci/environment.py", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="NOTICE lists what uv.lock pins for Python 3.12")
def test_the_licences_in_notice_are_those_of_the_pinned_packages() -> None:
    command = [sys.executable, ".ci/notice.py", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_asynchronous_client_is_the_twin_of_the_client() -> None:
    command = [sys.executable, ".ci/async_client.py", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_lock_holds_no_addresses() -> None:
    text = (ROOT / "uv.lock").read_text()
    assert not re.search(r"https?://", text), "a lock with addresses binds its reader to one mirror"
    assert len(tomllib.loads(text)["package"]) > 50


def test_what_is_installed_is_what_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert importlib.metadata.version("plimsoll") == project["version"]
    assert project["scripts"] == {"plimsoll": "console.terminal.app:main"}


def test_what_the_code_imports_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=; ]", line, maxsplit=1)[0].lower() for line in declared}
    owners = importlib.metadata.packages_distributions()
    used = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            used |= set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), flags=re.M))
    foreign = {name for name in used if name in owners and name not in PACKAGES and name not in sys.stdlib_module_names}
    undeclared = {name for name in foreign if not {re.sub("[-_.]+", "-", own).lower() for own in owners[name]} & names}
    assert undeclared <= {"starlette"}, "which FastAPI is made of"
