"""The how-tos on plug-ins work as written: their files are written and their commands run in a copy of the tree."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lineage.errors import UnknownError
from training.plugins import TRAINING_FAMILIES
from validators.plugins import CHECKS, DRIFT_STATISTICS

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to"
PAGES = {
    "add-a-check": "approval_rate_in_range",
    "add-a-drift-statistic": "kolmogorov_smirnov",
    "add-a-model-family": "naive_bayes",
}
LOADS_POLICY = (
    "from pathlib import Path; from validators.policy import load_policy; load_policy(Path('policy-part.toml'))"
)
_STEP = re.compile(r"(?:^File `(?P<file>[^`]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages that the pages add files to; the rest is found in the tree itself."""
    place = tmp_path / "copy"
    for package in ("validators", "training"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def run(line: str, place: Path) -> str:
    """Run one command of a page in the copy; what pip installs goes into a folder beside it."""
    installed = place.parent / "installed"
    settings = {"PYTHONPATH": f"{installed}{os.pathsep}{ROOT}", "PIP_TARGET": str(installed)}
    settings |= {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PYTHONWARNINGS": "ignore"}
    command = line.partition("#")[0].replace(".venv/bin/python", sys.executable)
    done = subprocess.run(
        shlex.split(command), cwd=place, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def steps(page: str) -> list[tuple[str | None, str, str]]:
    """Every code block of a page: the file that it is, its language, its text."""
    text = (HOW_TO / f"{page}.md").read_text()
    return [(step["file"], step["kind"], step["body"]) for step in _STEP.finditer(text)]


@pytest.mark.parametrize("page", PAGES)
def test_the_page_works_as_written(page: str, copy: Path) -> None:
    shown = ""
    for file, kind, body in steps(page):
        if file is None:
            assert kind == "sh", f"a block of {kind} without a file name"
            shown += "".join(run(line, copy) for line in body.splitlines())
            continue
        (copy / file).write_text(body)
        if file == "policy-part.toml":
            run(f".venv/bin/python -c {shlex.quote(LOADS_POLICY)}", copy)
    conforming = [line for line in shown.splitlines() if PAGES[page] in line and "conforms" in line]
    assert len(conforming) == 2, shown  # as a file, then as an entry point


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_passes_the_style_checks(page: str, copy: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "lineage").symlink_to(ROOT / "lineage")  # so that its imports are sorted as first-party
    files = [file for file, kind, _ in steps(page) if kind == "python" and file]
    assert files
    for file, _, body in steps(page):
        if file in files:
            (copy / file).write_text(body)
    ruff = Path(sys.executable).parent / "ruff"
    for command in ([ruff, "check"], [ruff, "format", "--check"]):
        done = subprocess.run([*command, *files], cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_keys_of_model_toml_are_those_of_the_spec() -> None:
    from training.spec import Training

    part = next(body for file, _, body in steps("add-a-model-family") if file == "model-part.toml")
    training = Training.model_validate(tomllib.loads(part)["training"])
    assert training.ranges["smoothing"].log


def test_the_examples_are_not_left_in_the_tree() -> None:
    for point, name in zip((CHECKS, DRIFT_STATISTICS, TRAINING_FAMILIES), PAGES.values(), strict=True):
        with pytest.raises(UnknownError):
            point.load(name)
