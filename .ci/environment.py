"""Generate environment.yml from uv.lock, so that conda users get the same pins. `--check` only compares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAD = """\
# For conda users: the pins of uv.lock for Python 3.12. Written by .ci/environment.py; `make lock` keeps it in step.
# `make install` needs no conda and also leaves out nvidia-nccl (469 MB) on machines without a GPU, which pip cannot.
name: plimsoll
channels:
  - conda-forge
dependencies:
  - python=3.12
  - pip
  - pip:
"""


def pins() -> list[str]:
    """`name==version` of every runtime package of the lock, for Python 3.12 on Linux."""
    uv = ROOT / ".venv" / "bin" / "uv"
    command = [str(uv) if uv.exists() else "uv", "export", "--frozen", "--quiet", "--no-dev", "--no-emit-project"]
    options = ["--no-hashes", "--no-annotate", "--no-header"]
    exported = subprocess.run([*command, *options], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for line in exported.splitlines() if (name := _for_312(line))]


def _for_312(line: str) -> str | None:
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    here = {"python_version": "3.12", "python_full_version": "3.12.1", "sys_platform": "linux"}
    here |= {"platform_machine": "x86_64", "platform_system": "Linux", "implementation_name": "cpython"}
    here |= {"platform_python_implementation": "CPython", "os_name": "posix", "extra": ""}
    if requirement.marker is not None and not requirement.marker.evaluate(here):
        return None
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def text() -> str:
    """The whole of environment.yml."""
    return HEAD + "".join(f"      - {pin}\n" for pin in pins())


if __name__ == "__main__":
    path = ROOT / "environment.yml"
    if "--check" in sys.argv:
        sys.exit(0 if path.read_text() == text() else "environment.yml differs from uv.lock; run `make lock`")
    path.write_text(text())
