"""Names of accounts: plain ASCII, so that no script has look-alikes, and none that reads like an existing one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from lineage.errors import InvalidError, RefusedError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._@-]{0,98}[a-z0-9])?")
#: Letters that are taken for one another in common fonts. UTS 39 calls the result a skeleton.
_ALIKE = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("0", "o"), ("1", "l"), ("i", "l"), ("5", "s"))
_SEPARATORS = str.maketrans("", "", "._@-")
#: Names under which the platform itself acts.
RESERVED = frozenset({"ledger", "platform", "plimsoll", "baseline", "system"})


def account_name(given: str) -> str:
    """The name in the form in which it is kept: NFKC, case-folded.

    Raises:
        InvalidError: it has blanks around it, or other characters than a name has.
    """
    name = unicodedata.normalize("NFKC", given).casefold()
    if given != given.strip() or not _NAME.fullmatch(name):
        raise InvalidError(
            f"{given!r:.120} is no name of an account; expected 1 to 100 of the letters a to z, digits and . _ @ - "
            "within, for instance `r.okafor`",
            field="name",
        )
    return name


def skeleton(name: str) -> str:
    """What a reader takes the name for: names with one skeleton are look-alikes (Unicode UTS 39, for ASCII)."""
    reading = name.translate(_SEPARATORS)
    for one, other in _ALIKE:
        reading = reading.replace(one, other)
    return reading


def check_unused(name: str, known: Iterable[str]) -> None:
    """Refuse a name that an account has or had, or that looks like one of these.

    Raises:
        RefusedError: names the account that it is like.
    """
    reading = skeleton(name)
    for other in (*known, *sorted(RESERVED)):
        if skeleton(other.casefold()) == reading:
            what = "exists" if other == name else "looks the same"
            raise RefusedError(f"account name {name!r}: {other!r} {what}; choose another name", code="name")
