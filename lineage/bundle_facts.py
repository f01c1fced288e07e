"""What a bundle's `release.json` says about its release, compared with what the facts say.

Digest and signature prove that the bytes are those on record, not that they are what the record says of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from lineage.digest import digest_of
from lineage.errors import TamperedError

SPEC_FILE = "release.json"


@dataclass(frozen=True)
class Statement:
    """What both the facts and the bundle state about a release; `features` are names in model order."""

    model: str
    family: str
    threshold: float
    policy_digest: str
    features: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The digest of the statement, which a route carries."""
        return _digest(self)


@lru_cache(maxsize=16_384)  # a table is made with every fact, and has several releases for each model
def _digest(statement: Statement) -> str:
    return digest_of(vars(statement) | {"features": list(statement.features)})


def statement_of(
    *, model: str, family: str, threshold: float, policy_digest: str, features: Sequence[str]
) -> Statement:
    """The statement with features as a tuple and a threshold that is a float, so that equal ones compare equal."""
    return Statement(model, family, float(threshold), policy_digest, tuple(features))


def parse_statement(name: str, content: bytes) -> Statement:
    """The statement in the bytes of `release.json`.

    Args:
        name: what errors call the bundle.

    Raises:
        TamperedError: the bytes hold no such statement.
    """
    try:
        said: Any = orjson.loads(content)
        return statement_of(
            model=str(said["model"]),
            family=str(said["family"]),
            threshold=said["threshold"],
            policy_digest=str(said["policy_digest"]),
            features=[str(feature["name"]) for feature in said["features"]],
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TamperedError(
            f"{SPEC_FILE} of bundle {name[:12]} does not state what a release is: {error!r}", field=SPEC_FILE
        ) from error


def check_agreement(name: str, said: Statement, recorded: Statement) -> None:
    """Check that a bundle says what the facts say.

    Raises:
        TamperedError: it says something else; `field` is the first value that differs.
    """
    for field in Statement.__dataclass_fields__:
        here, there = getattr(said, field), getattr(recorded, field)
        if here != there:
            raise TamperedError(
                f"bundle {name[:12]} says that {field} is {_shown(here)}, but {_shown(there)} is on record; train the "
                "release again",
                field=field,
            )


def _shown(value: Any) -> str:
    return f"{list(value) if isinstance(value, tuple) else value!r}"[:300]
