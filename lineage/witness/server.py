"""The witness service: a separate process with its own key and store that cosigns checkpoints of logs.

It cosigns a checkpoint only if that continues the last one it cosigned of this log, so that a log that was cut,
replaced by an older copy or rewritten is detected even if its own signatures are valid.

Invariants:
- never two roots for one size, never a smaller size after a larger one, also across crashes;
- a head is on disk before its cosignature is returned;
- times of cosignatures never go backwards;
- the key is no log's key; one process a folder.

    witness.key, witness.vkey     its own key
    logs/<log>.vkey               the watched logs, each with its one key
    seen/<log>.note               the newest checkpoint cosigned, with the cosignature
    seen/<log>.jsonl              every head cosigned and when, for examiners
    seen/<log>.refused            the newest checkpoint that a log signed and the witness refused: evidence
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import structlog
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from lineage.clock import Clock, now
from lineage.diagnostic_log import configure_diagnostic_log
from lineage.errors import PlimsollError, RefusedError, UnknownError
from lineage.log.checkpoint import Checkpoint
from lineage.log.disk import Disk
from lineage.log.handover import HandOver
from lineage.log.signed_note import NoteError, Verifier, split
from lineage.private_folders import close_to_others
from lineage.settings import Settings
from lineage.witness.known_logs import log_vkey, own_key, register, replace_key, watched_log, watched_logs
from lineage.witness.protocol import (
    BODY_BYTES,
    NOTHING,
    SIZE_TYPE,
    Memory,
    Seen,
    Submission,
    check_continuation,
    line_of,
    read_checkpoint,
)

_MOST_LOGS = 64  # trusted on first use; an operator may add more
_SHUTDOWN_SECONDS = 2
log = structlog.get_logger("plimsoll.witness")


class Witness:
    """A witness on its folder; one process at a time.

    Args:
        folder: made when missing; keep it outside of what a restore of the ledger's home replaces.
        clock: gives the time of each cosignature.
        trust_first: whether an unknown log may register itself; otherwise `register` is the only way.
        disk: port for disk operations.

    Raises:
        RefusedError: another process has the folder open, or the witness's key is a log's.
        TamperedError: a stored head is not what was written.
        UnavailableError: the key is missing or cannot be read.
    """

    def __init__(
        self, folder: Path, *, clock: Clock = now, trust_first: bool = False, disk: Disk | None = None
    ) -> None:
        self.folder = folder
        self._clock = clock
        self._trust_first = trust_first
        self._disk = disk or Disk()
        self._turn = threading.Lock()
        for inner in ("logs", "seen"):
            (folder / inner).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock: int | None = _lock(folder)
        try:
            self.signer = own_key(folder, self._disk)
            self._memory = Memory(folder / "seen", self.verifier, self._disk)
            for origin in self.logs():
                self._memory.recall(origin)
        except BaseException:
            self.close()
            raise

    @property
    def verifier(self) -> Verifier:
        """The public half of the witness's key."""
        return self.signer.verifier

    def logs(self) -> dict[str, Verifier]:
        """The watched logs' keys by name."""
        return watched_logs(self.folder, self.verifier)

    def introduce(self, vkey: str) -> Verifier:
        """Register a log by its verifier key; the first key of a log is pinned.

        Raises:
            InvalidError: it is not a verifier key.
            RefusedError: an unknown log without trust on first use, or a known one with another key (403).
        """
        verifier = log_vkey(vkey)
        with self._turn:
            if watched_log(self.folder, self.verifier, verifier.name) is None:
                if not self._trust_first:
                    message = f"the witness does not watch {verifier.name}; its operator adds it with --add"
                    raise RefusedError(message, code="untrusted", status=403)
                if len(self.logs()) >= _MOST_LOGS:
                    raise RefusedError(f"{_MOST_LOGS} logs are watched already", code="untrusted", status=403)
            return register(self.folder, vkey, disk=self._disk)

    def add_checkpoint(self, body: bytes) -> bytes:
        """Cosign a checkpoint that `protocol.check_continuation` allows; return the signature line.

        Raises:
            MalformedError: the request is not one (400).
            UnknownError: the log is not watched (404).
            RefusedError: no signature of the log's key (403); not the size last cosigned, or another root for the
                same size (409); the proof does not show that the new tree continues the old one (422).
            UnavailableError: it could not be stored. Nothing was cosigned.
        """
        offer = Submission.parse(body)
        head = read_checkpoint(offer.note)
        with self._turn:
            verifier = self._log(head.origin)
            # "ignore signatures from unknown keys"; 403 if none of the log's key is there or one does not hold
            try:
                signed = split(offer.note)[0] + b"\n" + line_of(verifier, offer.note)
            except NoteError as error:
                raise RefusedError(f"not cosigned: {error}", code="signature", status=403) from error
            seen = self._memory.recall(head.origin)
            try:
                check_continuation(seen, offer, head)
            except RefusedError as refusal:
                self._keep_evidence(head, signed, refusal)
                raise
            # check and store under one lock, or a slower request for a smaller size could overtake
            return self._cosign(head, signed, seen)

    def hand_over(self, body: bytes) -> Verifier:
        """Pin the next key of a log, if the pinned one signed it over and the log continues what was cosigned.

        Raises: as `add_checkpoint`; RefusedError (403) also where another key than the pinned one signed it over.
        """
        offer = Submission.parse(body)
        try:
            given = HandOver.parse(offer.note)
        except NoteError as error:
            raise RefusedError(f"no hand-over: {error}", code="signature", status=403) from error
        with self._turn:
            pinned = self._log(given.head.origin)
            if pinned == given.new:
                return pinned
            if pinned != given.old:
                raise RefusedError(f"{pinned.name} is known by another key", code="key_changed", status=403)
            try:
                check_continuation(self._memory.recall(given.head.origin), offer, given.head)
            except RefusedError as refusal:
                self._keep_evidence(given.head, given.note, refusal)
                raise
            replace_key(self.folder, given, disk=self._disk)
            return given.new

    def latest(self, origin: str) -> bytes:
        """The newest checkpoint of a log that was cosigned, as a note with both signatures.

        Raises:
            UnknownError: the log is not watched, or nothing of it was cosigned yet.
        """
        with self._turn:
            self._log(origin)
            if self._memory.recall(origin) == NOTHING:
                raise UnknownError(f"no checkpoint of {origin!r} was cosigned yet", field="origin")
            return self._memory.file(origin, "note").read_bytes()

    def close(self) -> None:
        """Release the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _cosign(self, head: Checkpoint, signed: bytes, seen: Seen) -> bytes:
        moment = max(int(self._clock().timestamp()), seen.moment)
        line = self.signer.cosign(signed, moment)
        # "The witness MUST persist the new checkpoint before responding."
        self._memory.keep(head.origin, Seen(head.size, head.root, moment), signed + line)
        return line

    def _keep_evidence(self, head: Checkpoint, signed: bytes, refusal: RefusedError) -> None:
        if refusal.code == "stale" and head.size >= refusal.detail["size"]:
            return  # a log that only needs the size to continue from
        log.warning("not cosigned", origin=head.origin, size=head.size, code=refusal.code, message=refusal.message)
        try:
            self._memory.keep_evidence(head.origin, signed)
        except OSError as error:  # the refusal holds without the evidence
            log.error("the refused checkpoint could not be kept", message=error.strerror)

    def _log(self, origin: str) -> Verifier:
        verifier = watched_log(self.folder, self.verifier, origin)
        # "If the checkpoint origin is unknown, the witness MUST respond with a 404"
        if verifier is None:
            raise UnknownError(f"the witness does not watch {origin[:200]!r}", field="origin")
        return verifier


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        message = f"another witness has {folder} open; stop it or choose another folder"
        raise RefusedError(message, code="already_open") from error
    return descriptor


def create_app(
    folder: Path,
    *,
    clock: Clock = now,
    trust_first: bool = False,
    hosts: Sequence[str] = ("127.0.0.1", "localhost", "testserver"),
    disk: Disk | None = None,
) -> FastAPI:
    """The witness as an ASGI application; `hosts` are the accepted Host names.

    Raises:
        PlimsollError: as `Witness`.
    """
    witness = Witness(folder, clock=clock, trust_first=trust_first, disk=disk)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        witness.close()

    app = FastAPI(title="Plimsoll witness", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.witness = witness
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_exception_handler(PlimsollError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http)

    @app.post("/add-checkpoint")
    def add_checkpoint(body: Body) -> Response:
        """Cosign a checkpoint (c2sp.org/tlog-witness)."""
        return Response(witness.add_checkpoint(body), media_type="text/plain")

    @app.post("/logs")
    def logs(body: Body) -> Response:
        """Register a log by its verifier key."""
        verifier = witness.introduce(body.decode(errors="replace"))
        return JSONResponse({"origin": verifier.name})

    @app.post("/handovers")
    def handovers(body: Body) -> Response:
        """Pin the next key of a log by a hand-over that the pinned key signed."""
        return JSONResponse({"vkey": witness.hand_over(body).vkey})

    @app.get("/checkpoint/{origin:path}")
    def checkpoint(origin: str) -> Response:
        """The newest checkpoint cosigned of a log."""
        return Response(witness.latest(origin), media_type="text/plain")

    @app.get("/vkey")
    def vkey() -> Response:
        """The witness's verifier key."""
        return Response(f"{witness.verifier.vkey}\n", media_type="text/plain")

    @app.get("/healthz")
    def health() -> Response:
        """Whether the witness answers, its name and how many logs it watches."""
        return JSONResponse({"ok": True, "witness": witness.verifier.name, "logs": len(witness.logs())})

    return app


async def _body(request: Request) -> bytes:
    """The body of a POST, at most `BODY_BYTES`; requests that a browser sends for a web page are refused."""
    if "origin" in request.headers:
        raise RefusedError("web pages have no business here", code="browser", status=403)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise RefusedError(f"the body is larger than {BODY_BYTES} bytes", code="too_large", status=413)
    return body


Body = Annotated[bytes, Depends(_body)]


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, PlimsollError)  # noqa: S101  registered for this class only
    if error.code == "stale":
        # set here: Starlette would add a charset, and clients compare the whole type
        return Response(f"{error.detail['size']}\n", 409, {"content-type": SIZE_TYPE})
    if error.status >= 500:
        log.error("request failed", message=error.message)
    return JSONResponse(error.body(), error.status)


async def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    return JSONResponse({"error": str(error.detail), "code": "http"}, error.status_code, error.headers)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until stopped; with `--add VKEY` register a log and exit."""
    parser = argparse.ArgumentParser(prog="python -m lineage.witness", description="The witness of the ledger.")
    parser.add_argument("--add", metavar="VKEY", help="watch the log with this verifier key, and end")
    parser.add_argument(
        "--trust-first", action="store_true", help="let a log never seen before make itself known, once"
    )
    given = parser.parse_args(arguments)
    configure_diagnostic_log()
    close_to_others()
    settings = Settings()
    settings.require_safe_host()
    folder = settings.witness_home.expanduser().resolve()
    try:
        if given.add:
            print(f"watching {register(folder, given.add).name}")  # noqa: T201  the answer to a command
            return
        hosts = ["127.0.0.1", "localhost", settings.host]
        app = create_app(folder, trust_first=given.trust_first, hosts=hosts)
    except PlimsollError as error:
        sys.exit(error.message)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.witness_port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


if __name__ == "__main__":
    main()
