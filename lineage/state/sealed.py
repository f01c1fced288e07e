"""Names of the segments on record, in 8 bytes each: a ledger has hundreds of thousands of them."""

from __future__ import annotations

from hashlib import blake2b


def name_of(model: str, segment: str) -> int:
    """The first 8 bytes of a hash of the segment's full name."""
    return int.from_bytes(blake2b(f"{model}/{segment}".encode(), digest_size=8).digest(), "big")
