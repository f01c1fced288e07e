"""A log that submits true or false checkpoints to a witness, and a witness on a real port."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lineage.log.checkpoint import Checkpoint
from lineage.log.merkle import Tree, leaf_hash
from lineage.log.signed_note import Signer
from lineage.witness.cosigner import OwnLog
from lineage.witness.protocol import Submission
from lineage.witness.server import Witness
from tests.support.sample_facts import ManualClock


def key_of(seed: str) -> Ed25519PrivateKey:
    """A key derived from the seed."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())


class ShownLog:
    """A log of leaves without records, which is all that a witness sees."""

    def __init__(self, name: str = "plimsoll/0123456789abcdef", size: int = 0, *, key: str | None = None) -> None:
        self.signer = Signer(name, key_of(key or name))
        self.tree = Tree()
        self.grow(size)

    def grow(self, count: int, branch: str = "") -> ShownLog:
        """Add records; those of another branch differ from the first on."""
        for number in range(len(self.tree), len(self.tree) + count):
            self.tree.append(leaf_hash(f"{branch}{number}".encode()))
        return self

    def copy(self, size: int | None = None) -> ShownLog:
        """The same log as it was at some size."""
        other = ShownLog(self.signer.name)
        other.signer = self.signer
        other.tree.extend(self.tree.leaf(index) for index in range(len(self.tree) if size is None else size))
        return other

    def note(self, size: int | None = None) -> bytes:
        size = len(self.tree) if size is None else size
        return Checkpoint(self.signer.name, size, self.tree.root(size)).sign(self.signer)

    def offer(self, old: int, size: int | None = None) -> Submission:
        size = len(self.tree) if size is None else size
        return Submission(old, self.tree.prove_consistency(old, size), self.note(size))

    def body(self, old: int, size: int | None = None) -> bytes:
        return self.offer(old, size).body

    def own(self) -> OwnLog:
        return OwnLog(self.signer.verifier, self.note, self.tree.prove_consistency, self.tree.root)


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """A socket that accepts connections before a server uses it, and its address."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        bound.listen(64)
        yield bound, f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def listening_at(url: str) -> Iterator[socket.socket]:
    """A socket at the port of this address, which was free a moment ago."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        bound.listen(64)
        yield bound


@contextmanager
def serving(app: Callable[..., Any], bound: socket.socket | None = None) -> Iterator[str]:
    """The application on a port of this machine, in a thread; yields its address."""
    with listening() as (own, _):
        socket_ = bound or own
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="auto"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket_]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{socket_.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@contextmanager
def opened(folder: Path, **given: Any) -> Iterator[Witness]:
    witness = Witness(folder, **({"clock": ManualClock()} | given))
    try:
        yield witness
    finally:
        witness.close()


def post(http: Any, body: bytes) -> httpx.Response:
    answer: httpx.Response = http.post("/add-checkpoint", content=body)
    return answer


def history(folder: Path) -> list[tuple[int, str]]:
    text = b"".join(path.read_bytes() for path in (folder / "seen").glob("*.jsonl"))
    lines = [orjson.loads(line) for line in text.splitlines()]
    return [(line["size"], line["root"]) for line in lines]
