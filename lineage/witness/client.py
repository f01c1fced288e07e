"""HTTP client of a witness. Its answers count only if signed by the key that was pinned on first contact.

So another process at the witness's address can neither cosign nor raise an alarm. It can repeat an old answer, or
claim not to know the log; the growing number of records without cosignature then shows that the witness is away.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

import httpx
import structlog

from lineage.errors import InvalidError, RefusedError, TamperedError, UnavailableError
from lineage.log.checkpoint import Checkpoint
from lineage.log.disk import Disk
from lineage.log.handover import LogKeys, as_keys
from lineage.log.signed_note import NoteError, Verifier
from lineage.witness.protocol import BODY_BYTES, SIZE_TYPE, MalformedError, Submission, parse_size

SECONDS = 5.0
Root = Callable[[int], bytes]
log = structlog.get_logger("plimsoll.cosigning")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer of the witness."""

    status: int
    kind: str
    body: bytes

    @property
    def known_size(self) -> int | None:
        """The size of the log that the witness reports; None if the answer is of another kind."""
        if self.status != 409 or self.kind != SIZE_TYPE or not self.body.endswith(b"\n"):
            return None
        try:
            return parse_size(self.body[:-1].decode(errors="replace"))
        except MalformedError:
            return None

    @property
    def text(self) -> str:
        """Status and the first 200 bytes, for messages."""
        return f"{self.status}: {self.body[:200].decode(errors='replace').strip()}"


class WitnessClient:
    """A log's client of its witness: an address, and the key that is pinned on first contact.

    Args:
        url: `http://host:port`.
        pin: the file of the witness's key; remove it only to begin with another witness.
        own: the log's own key, or its keys where it had several.
        seconds: timeout of one request.
        disk: port for disk operations.

    Raises:
        InvalidError: `url` is not such an address, or holds a password.
    """

    def __init__(
        self, url: str, pin: Path, own: Verifier | LogKeys, *, seconds: float = SECONDS, disk: Disk | None = None
    ) -> None:
        self.url = _checked(url)
        self.own = as_keys(own)  # replaced when the log is handed to another key
        self._pin, self._seconds = pin, seconds
        self._disk = disk or Disk()
        # no compressed answers: they could expand to any size
        headers = {"accept-encoding": "identity"}
        self._http = httpx.Client(
            verify=_authorities(), trust_env=False, timeout=seconds, headers=headers, follow_redirects=False
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def pinned(self) -> Verifier | None:
        """The pinned key of the witness; None before first contact.

        Raises:
            RefusedError: it is not a witness's key, or it is the log's own.
            TamperedError: the file holds no key.
            UnavailableError: the file cannot be read.
        """
        try:
            verifier = Verifier.parse(self._pin.read_text())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"the witness's key cannot be read: {error.strerror}", field="witness") from error
        except ValueError as error:  # NoteError, or not UTF-8
            raise TamperedError(f"{self._pin.name} holds no witness's key: {error}", field="witness") from error
        return self._check_usable(verifier)

    def verifier(self) -> Verifier:
        """The witness's key; pins it on first contact.

        Raises:
            RefusedError: it is not a witness's key, or it is the log's own.
            UnavailableError: the witness does not answer, or the key cannot be stored.
        """
        pinned = self.pinned()
        if pinned is not None:
            return pinned
        verifier = self._check_usable(self._shown())
        try:
            self._pin.parent.mkdir(parents=True, exist_ok=True)
            self._disk.replace(self._pin, f"{verifier.vkey}\n".encode())
        except OSError as error:
            raise UnavailableError(f"the witness's key could not be pinned: {error.strerror}") from error
        log.info("the witness's key is pinned", witness=verifier.name, url=self.url)
        return verifier

    def compare(self, size: int, root: Root) -> Checkpoint | None:
        """Compare the last checkpoint that the witness cosigned with the log.

        Args:
            size: records in the log.
            root: the root over the first n records, for n up to `size`.

        Returns:
            The newest checkpoint that the witness cosigned, which the log continues; None if it has none of this log.

        Raises:
            TamperedError: the log does not continue the witness's checkpoint; `seen` and `size` in the detail.
            RefusedError: the answer is of a witness with another key than the pinned one.
            UnavailableError: no answer, or one that is not validly signed.
        """
        witness = self.verifier()
        answer = self._request("GET", f"/checkpoint/{quote(self.own.name, safe='')}")
        if answer.status == 404:
            self._check_pinned(witness)
            return None
        if answer.status != 200:
            raise UnavailableError(f"the witness at {self.url} answered {answer.text}", field="witness")
        try:
            witness.check(answer.body)
        except NoteError as error:
            self._check_pinned(witness)
            raise UnavailableError(f"what {self.url} answers does not count: {error}", field="witness") from error
        return check_cosigned(answer.body, self.own, size, root)

    def submit(self, submission: Submission) -> Answer:
        """Request a cosignature.

        Raises:
            UnavailableError: the witness does not answer.
        """
        return self._request("POST", "/add-checkpoint", submission.body)

    def hand_over(self, submission: Submission) -> Answer:
        """Show the witness the log's next key; the submission's note is a hand-over.

        Raises:
            UnavailableError: the witness does not answer.
        """
        return self._request("POST", "/handovers", submission.body)

    def introduce(self) -> None:
        """Register the log with a witness that trusts on first use.

        Raises:
            UnavailableError: it does not watch the log, or does not answer.
        """
        answer = self._request("POST", "/logs", self.own.current.vkey.encode())
        if answer.status != 200:
            raise UnavailableError(
                f"the witness at {self.url} does not watch this log ({answer.text}). Where it runs, call "
                f"`python -m lineage.witness --add {self.own.current.vkey}`",
                field="witness",
            )

    def _check_pinned(self, pinned: Verifier) -> None:
        shown = self._shown()
        if shown != pinned:
            raise RefusedError(
                f"the witness at {self.url} is {shown.name} with another key than {pinned.name}, which was pinned. "
                f"Find out why; to begin with another witness, remove {self._pin.name} and the cosigned checkpoint",
                code="witness_changed",
                field="witness",
            )

    def _shown(self) -> Verifier:
        answer = self._request("GET", "/vkey")
        try:
            if answer.status != 200:
                raise NoteError(answer.text)
            return Verifier.parse(answer.body.decode(errors="replace"))
        except NoteError as error:
            raise UnavailableError(f"what answers at {self.url} is no witness: {error}", field="witness") from error

    def _check_usable(self, witness: Verifier) -> Verifier:
        if witness.key in [key.key for key in self.own.all]:
            message = f"{witness.name} has the log's own key; a witness needs a key of its own"
            raise RefusedError(message, code="same_key", field="witness")
        if not witness.cosigns:
            message = f"{witness.name} is no witness's key; expected one of type 4"
            raise RefusedError(message, code="no_witness", field="witness")
        return witness

    def _request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        deadline = time.monotonic() + self._seconds
        try:
            with self._http.stream(method, self.url + path, content=body) as response:
                data = b""
                for chunk in response.iter_raw():
                    data += chunk
                    if len(data) > BODY_BYTES or time.monotonic() > deadline:
                        raise UnavailableError(f"{self.url}{path} answers without end", field="witness")
                return Answer(response.status_code, response.headers.get("content-type", ""), data)
        except httpx.HTTPError as error:
            raise UnavailableError(f"no answer from the witness at {self.url}: {error}", field="witness") from error


def warm_up() -> None:
    """Load what the first request would load: certificates and the HTTP library, 0.3 s of a CPU."""
    httpx.Client(verify=_authorities(), trust_env=False).close()


@cache
def _authorities() -> ssl.SSLContext:
    # The machine's certificate store: a bank's witness has a certificate of the bank's own authority.
    return ssl.create_default_context()


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise InvalidError(f"the witness's address is {url!r:.200}: {error}", field="witness_url") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        expected = "http://HOST:PORT without name, password or query"
        raise InvalidError(f"the witness's address is no such address; expected {expected}", field="witness_url")
    return url.rstrip("/")


def check_cosigned(note: bytes, own: Verifier | LogKeys, size: int, root: Root) -> Checkpoint:
    """Check that the log of `size` records continues a cosigned note.

    Args:
        note: its cosignature has been checked.
        own: the log's own key.
        size: records in the log.
        root: the root over the first n records, for n up to `size`.

    Raises:
        TamperedError: the log does not continue it.
    """
    try:
        head = as_keys(own).open(note)
    except NoteError as error:
        raise TamperedError(
            f"the witness knows {own.name} by another key than the one that signs it now: {error}", field="witness"
        ) from error
    if head.size > size:
        message = f"the witness saw {head.size} records of {own.name}; the log has {size}: newer records are gone"
        raise TamperedError(f"{message}. Was an older copy restored?", field="witness", seen=head.size, size=size)
    if root(head.size) != head.root:
        message = f"the witness saw {head.size} records of {own.name} that are not the first {head.size} of this log"
        raise TamperedError(
            f"{message}, which has {size}: its history was replaced", field="witness", seen=head.size, size=size
        )
    return head
