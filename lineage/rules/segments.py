"""Rules of sealed segments: where one may lie, and that its name is new.

Whether the file is there is no rule: rules are pure, and a record is judged in the same way after its file is gone.
"""

from __future__ import annotations

from lineage.errors import RefusedError
from lineage.rules.proposal import Proposal
from lineage.segments import uri_of
from lineage.state.sealed import name_of


def lies_in_own_folder(p: Proposal) -> None:
    """Refuse a segment that is named elsewhere than in its model's folder: another path, or a URL."""
    expected = uri_of(str(p.named), p.data["segment"])
    if p.data["uri"] != expected:
        raise RefusedError(
            f"segment {p.data['segment']} of {p.named} is named at {p.data['uri']!r:.200}; expected {expected}",
            code="segment",
            field="uri",
        )


def has_new_name(p: Proposal) -> None:
    """Refuse a segment whose name was used before: its file would belong to two records."""
    if name_of(str(p.named), p.data["segment"]) in p.state.sealed:
        raise RefusedError(
            f"segment {p.data['segment']} of {p.named} is on record already; name each segment once", code="segment"
        )
