"""Read a model artefact with the family that its release names."""

from __future__ import annotations

from pathlib import Path

import structlog

from lineage.errors import InvalidError, UnavailableError
from validators.plugins import SCORING_FAMILIES
from validators.scoring.port import Parse, Scorer

log = structlog.get_logger("plimsoll.scoring")


def parse_scorer(family: str, name: str, content: bytes) -> Scorer:
    """The scorer in an artefact's bytes, read by the family called `family`.

    Args:
        name: what errors call the artefact.

    Raises:
        UnknownError: no family has that name; an unknown name is never a default.
        InvalidError: several installed families have that name.
        TamperedError: the bytes are not an artefact of this family.
    """
    parse: Parse = SCORING_FAMILIES.load(family)
    return parse(name, content)


def load_scorer(family: str, path: Path) -> Scorer:
    """The scorer in the artefact at `path`, read by the family called `family`.

    Raises:
        UnknownError: no family has that name.
        UnavailableError: the file cannot be read.
        TamperedError: the bytes are not an artefact of this family.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"cannot read model artefact {path}: {error.strerror}") from error
    return parse_scorer(family, path.name, content)


def import_families() -> None:
    """Import every installed family, which takes a while, before the first artefact has to be read.

    A family that cannot be loaded is logged; the release that names it is refused when it is read.
    """
    for name in SCORING_FAMILIES.names():
        try:
            SCORING_FAMILIES.load(name)
        except (InvalidError, UnavailableError) as error:
            log.error("model family cannot be used", family=name, reason=error.message)
