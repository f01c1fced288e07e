"""Signed but faulty bundles: altered bytes, or a model family that misbehaves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from lineage.digest import digest_folder
from lineage.settings import Settings
from lineage.signing import sign
from serve.models.sandbox_client import Sandbox
from serve.routes import Target
from tests.support.bundles import folder_of

_FAMILIES = {
    "hangs": "while True: pass",
    "sleeps": "import time; time.sleep(1000)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "leaves": "import os; os._exit(0)",
    "hoards": "kept = [bytearray(1 << 26) for _ in range(1 << 20)]",
    "breaks": "1 / 0",
    "forges": "import os; os.write(3, VERDICT); os._exit(0)",
    "chatters": 'import os; [os.write(3, b"x" * 1000) for _ in range(1000)]',
}
_VERDICT = b'{"proof": {"golden": 1, "memory": 1, "light": 1}, "filtered": true}\n{"ended": 0}\n'


def altered(settings: Settings, target: Target, name: str, files: Mapping[str, bytes]) -> Target:
    """A signed copy of a bundle, called `name`, with other bytes in some files."""
    source, draft = folder_of(settings, target), settings.artefacts / f"draft-{name}"
    draft.mkdir()
    for path in source.iterdir():
        (draft / path.name).write_bytes(files.get(path.name, path.read_bytes()))
    digest = digest_folder(draft)
    sign(draft.rename(settings.artefacts / digest.removeprefix("sha256:")), settings)
    return Target(name, digest)


def of_family(files: Mapping[str, bytes], family: str) -> dict[str, bytes]:
    """The files of a bundle whose model is read by another family."""
    return dict(files) | {"release.json": files["release.json"].replace(b"boosted_trees", family.encode())}


def sandbox_with(place: Path, wall_seconds: float = 120.0, families: dict[str, str] | None = None) -> Sandbox:
    """A real sandbox with the misbehaving families installed and one second of CPU time."""
    for name, body in (_FAMILIES | (families or {})).items():
        text = f"VERDICT = {_VERDICT!r}\ndef parse(name, content):\n    {body}\n"
        (place / f"{name}.py").write_text(text)
    start = (
        "from validators.scoring import families; import serve.models.sandbox_server; "
        f"families.__path__.append({str(place)!r}); serve.models.sandbox_server.main()"
    )
    return Sandbox(1.0, wall_seconds, (sys.executable, "-c", start, "1", str(wall_seconds)))


def end_children(sandbox: Sandbox) -> int:
    """Kill the sandbox's running child processes; return how many there were."""
    children = Path(f"/proc/{sandbox.pid}/task/{sandbox.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    return len(children)
