"""The part of a release's policy that the rules of release read; the whole policy is `validators.policy`."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lineage.errors import InvalidError


def _rising(steps: list[float]) -> list[float]:
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError("steps have to rise")
    return steps


Steps = Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(_rising)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Validation(_Part):
    """Checks that have to pass; an empty list lets nothing pass."""

    checks: list[str] = []


class Traffic(_Part):
    """Shares of live traffic, one after the other."""

    steps: Steps = []


class Review(_Part):
    """Whether a second person has to decide; where the policy is silent, one has to."""

    required: bool = True


class Terms(_Part):
    """What a policy says to the ledger."""

    validation: Validation = Validation()
    canary: Traffic = Traffic()
    review: Review = Review()
    rollout: Traffic = Traffic()


def terms_of(policy: dict[str, Any]) -> Terms:
    """The terms in a policy.

    Raises:
        InvalidError: a value is not what the rules can read.
    """
    try:
        return Terms.model_validate(policy)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["policy", *map(str, first["loc"])])
        raise InvalidError(f"{field}: {first['msg']}, got {first['input']!r:.120}", field=field) from error
