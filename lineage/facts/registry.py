"""Every kind of fact by its name, and the parsing of a fact's data."""

from __future__ import annotations

from pydantic import ValidationError

from lineage.digest import canonical
from lineage.errors import InvalidError
from lineage.facts import accounts, data_subjects, keys, kinds, platform, safety
from lineage.facts.base import Fact, Json, ModelFact, PlatformFact, Subject, SwitchFact
from lineage.facts.eras import EARLIER, LATEST

_BASES = (Fact, ModelFact, SwitchFact, PlatformFact)
FACTS: dict[str, type[Fact]] = {
    name: kind
    for module in (kinds, accounts, data_subjects, safety, platform, keys)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, Fact) and kind not in _BASES
}


def shape_of(kind: str, era: int) -> type[Fact]:
    """The shape that facts of a kind have in an era.

    Raises:
        InvalidError: there is no such kind, or there was none in that era.
    """
    fact = fact_of(kind)
    if fact.introduced > era:
        raise InvalidError(
            f"{kind} exists since era {fact.introduced}; the rules in force are of era {era}", field="kind"
        )
    return next((earlier.shape for earlier in EARLIER.get(kind, ()) if era <= earlier.until), fact)


def parse_fact(kind: str, data: Json, era: int = LATEST) -> Json:
    """Check `data` against the shape of the kind in that era and return it in its stored form.

    Raises:
        InvalidError: unknown kind, missing or extra field, or a value of the wrong type or range,
            or one that cannot be written as JSON.
    """
    shape = shape_of(kind, era)
    canonical(data)  # refuses values such as NaN, which pydantic would turn into null
    try:
        return shape.model_validate(data).model_dump(mode="json", by_alias=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "data"
        raise InvalidError(f"{kind}.{field}: {first['msg']}, got {first['input']!r:.120}", field=field) from error


def subject_of(kind: str) -> Subject:
    """`model`, `release`, `one_or_all` (of the models) or `platform`: what a fact of this kind is about."""
    return fact_of(kind).subject


def fact_of(kind: str) -> type[Fact]:
    """The class of a kind.

    Raises:
        InvalidError: there is no such kind.
    """
    try:
        return FACTS[kind]
    except KeyError:
        raise InvalidError(f"there is no fact {kind!r}; expected one of {', '.join(FACTS)}", field="kind") from None
