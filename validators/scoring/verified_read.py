"""Reads a bundle once, verifies the bytes it read, and has exactly these parsed.

The folder may be written to at any moment, also between two reads. So there is one read.
"""

from __future__ import annotations

from pathlib import Path

from lineage.digest import digest_files, read_folder
from lineage.errors import InvalidError, TamperedError
from lineage.settings import Settings
from lineage.signing import signature_of, verify_files
from validators.scoring.bundle import REFERENCE_FILE, Bundle, parse_bundle


def read_verified(folder: Path, digest: str, settings: Settings) -> dict[str, bytes]:
    """The files of a bundle that scoring needs, after digest and signature were checked over the bytes of all.

    Args:
        digest: what the ledger approved, `sha256:` and 64 hexadecimal digits.

    Raises:
        UnavailableError: the folder is not there or a file cannot be read.
        TamperedError: the bytes are not those of the digest (`field` is digest), or the signature does not hold
            (signature).
    """
    try:
        files = read_folder(folder)
        found = digest_files(folder.name, files)
    except InvalidError as error:
        raise TamperedError(f"bundle {folder.name[:12]}: {error.message}", field="digest") from error
    if found != digest:
        raise TamperedError(
            f"the bundle has digest {found[:19]}…, but {digest[:19]}… is on record; restore the artefact",
            field="digest",
        )
    verify_files(folder.name, files, signature_of(folder), settings)
    return {name: content for name, content in files.items() if name != REFERENCE_FILE}


def load_verified(folder: Path, digest: str, settings: Settings) -> Bundle:
    """The bundle in verified bytes.

    Raises:
        UnavailableError: the folder is not there or a file cannot be read.
        TamperedError: the bytes are not those of the digest, the signature does not hold, or they are not a release.
        UnknownError: a model family that is not installed.
    """
    return parse_bundle(folder, read_verified(folder, digest, settings))
