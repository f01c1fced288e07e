"""Comparison of a log with what its witness cosigned: with the witness itself, or with the copy that the log keeps."""

from __future__ import annotations

from pathlib import Path

from lineage.errors import TamperedError, UnavailableError
from lineage.log.checkpoint import Checkpoint
from lineage.log.handover import LogKeys
from lineage.log.signed_note import Verifier
from lineage.witness.client import SECONDS, Root, WitnessClient, check_cosigned


def check_against_witness(
    url: str, pin: Path, own: Verifier | LogKeys, size: int, root: Root, *, seconds: float = SECONDS
) -> Checkpoint | None:
    """Compare the witness's last checkpoint of a log with the log.

    Args:
        url: address of the witness.
        pin: the file of the witness's key, written on first contact.
        own: the public half of the log's key, or its keys where it had several.
        size: records in the log.
        root: the root over the first n records, for n up to `size`.
        seconds: timeout of one request.

    Returns:
        The newest checkpoint that the witness cosigned, which the log continues; None if it has none of this log.

    Raises:
        TamperedError: the log does not continue the witness's checkpoint; `seen` and `size` in the detail. Catch it
            before UnavailableError, its base class.
        RefusedError: the witness has another key than the pinned one, or the log's own.
        UnavailableError: the witness does not answer; the caller decides whether to go on.
    """
    link = WitnessClient(url, pin, own, seconds=seconds)
    try:
        return link.compare(size, root)
    finally:
        link.close()


def check_against_copy(cosigned: Path, pin: Path, own: Verifier | LogKeys, size: int, root: Root) -> Checkpoint | None:
    """Compare the cosigned checkpoint in the log's folder with the log, without a request to the witness.

    Returns:
        That checkpoint; None if there is none.

    Raises:
        TamperedError: the log does not continue it, or it is not cosigned by the pinned key.
        UnavailableError: a file cannot be read.
    """
    note = read_copy(cosigned, pin)
    return None if note is None else check_cosigned(note, own, size, root)


def read_copy(cosigned: Path, pin: Path) -> bytes | None:
    """The kept copy of the newest cosigned checkpoint, its cosignature checked; None if there is none.

    Raises:
        TamperedError: it is not cosigned by the pinned key.
        UnavailableError: a file cannot be read.
    """
    try:
        note = cosigned.read_bytes()
        Verifier.parse(pin.read_text()).check(note)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"{cosigned.name} cannot be read: {error.strerror}", field="cosigned") from error
    except ValueError as error:  # NoteError, or not UTF-8
        raise TamperedError(f"{cosigned.name} is not what the witness cosigned: {error}", field="cosigned") from error
    return note
