"""Parts of OpenLineage events: standard facets, names of data sets, assertions from facts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

Json = dict[str, Any]
Event = dict[str, Any]
PRODUCER = "pkg:generic/plimsoll"
SPEC = "https://openlineage.io/spec"
_MESSAGE_CHARACTERS = 2_000
_PATHS = ("file", "hdfs", "dbfs")  # schemes whose names begin with a slash


def event_of(kind: str, at: str, **about: Any) -> Event:
    """An event of a kind (`RunEvent`, `DatasetEvent`) at the time of a fact."""
    return {"eventTime": at, "producer": PRODUCER, "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/{kind}"} | about


def facet(schema: str, **fields: Any) -> Json:
    """A standard facet: `schema` is the version of its schema and its name; fields that are None are left out."""
    url = f"{SPEC}/facets/{schema}.json#/$defs/{schema.partition('/')[2]}"
    return {"_producer": PRODUCER, "_schemaURL": url} | without_none(fields)


def without_none(fields: Json) -> Json:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def tags_facet(schema: str, tags: Json) -> Json | None:
    """A tags facet; None without tags."""
    listed = [{"key": key, "value": str(value), "source": "PLIMSOLL"} for key, value in without_none(tags).items()]
    return facet(schema, tags=listed) if listed else None


def owner_facet(author: str) -> Json:
    """The author of a model as owner of its job."""
    return facet("1-0-1/OwnershipJobFacet", owners=[{"name": f"user:{author}", "type": "AUTHOR"}])


def error_facet(message: str | None) -> Json:
    """An error message, its end if it is long."""
    return facet(
        "1-0-1/ErrorMessageRunFacet", message=(message or "")[-_MESSAGE_CHARACTERS:], programmingLanguage="python"
    )


def dataset_name(uri: str, namespace: str) -> tuple[str, str]:
    """Namespace and name of a data set by the naming rules of OpenLineage."""
    parts = urlsplit(uri)
    if not parts.scheme:
        return namespace, uri
    if parts.scheme == "file" and not parts.netloc:
        return "file", unquote(parts.path)
    host = parts.netloc if parts.password is None else parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}", parts.path if parts.scheme in _PATHS else parts.path.lstrip("/")


def add_assertions(dataset: Json, lines: Iterable[Json]) -> None:
    """Add assertions and their results to an input data set."""
    if given := list(lines):
        text = facet("1-1-0/DataQualityAssertionsDatasetFacet", assertions=given)
        dataset["inputFacets"] = {"dataQualityAssertions": text}


def _line(what: str, success: bool, expected: object, actual: object, **more: Any) -> Json:
    return {"assertion": what, "success": success, "expected": str(expected), "actual": str(actual)} | without_none(
        more
    )


def check_assertions(data: Json) -> Iterable[Json]:
    """The verdict of a check, then each of its findings. What could not be evaluated is not a success."""
    yield _line(data["check"], data["status"] == "pass", "pass", data["status"], name=data["title"])
    for one in data["findings"]:
        limit = f"{one.get('relation')} {one.get('limit')}"
        yield _line(data["check"], bool(one.get("ok")), limit, one.get("observed"), name=one.get("name"))


def golden_assertions(data: Json) -> Iterable[Json]:
    """Whether all golden rows gave the recorded answers."""
    if golden := data.get("golden"):
        count, matched = golden["count"], golden["matched"]
        yield _line("golden_rows", 0 < count == matched, count, matched)


def drift_assertions(data: Json) -> Iterable[Json]:
    """The verdict on drift, then each feature."""
    yield _line("drift", data["verdict"] == "ok", f"share < {data['limit']}", data["share_drifted"])
    for one in data["features"]:
        limit = f"{one['method']} < {one['limit']}"
        yield _line("drift", not one["drifted"], limit, one["score"], column=one["feature"])


def fairness_assertions(data: Json) -> Iterable[Json]:
    """The verdict on fairness of an attribute."""
    ok, limit = data["verdict"] == "ok", f"ratio >= {data['limit']}"
    yield _line("fairness", ok, limit, data["ratio"], column=data["attribute"])
