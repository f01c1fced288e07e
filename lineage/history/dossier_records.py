"""The records that belong to the dossier of a release."""

from __future__ import annotations

from collections.abc import Iterator

from lineage.errors import UnknownError
from lineage.log.index import Record, Records

_NAMING = ("release", "about", "champion", "challenger", "to", "replaced", "replaced_by", "control")


def about(records: Records, release: str, upto: int) -> list[int]:
    """Numbers, rising, of the records up to `upto` that are about a release or about its training.

    Raises:
        UnknownError: the release was not trained by then.
    """
    born = records.numbers(upto=upto, kinds=["ModelTrained"], release=release)
    if not len(born):
        raise UnknownError(f"there is no release {release!r} at record {upto}", field="release")
    first = int(born[0])
    trained = records[first]
    found = set(_origin(records, trained, upto))
    needle = f'{release}"'.encode()  # in every line that names the release; cheaper than parsing each line
    for index in map(int, records.numbers(after=first, upto=upto, model=trained["model"])):
        if needle in records.line(index + 1) and _names(records[index], release):
            found.add(index + 1)
    kinds = ["AlertRaised", "RetrainRequested"]
    for fact in records.find(after=first, upto=upto, kinds=kinds, model=trained["model"]).records:
        if fact["data"]["evidence"] in found:  # caused by a measurement of the release
            found.add(fact["seq"])
    return sorted(found)


def _origin(records: Records, trained: Record, upto: int) -> Iterator[int]:
    """Numbers of the training record, its request with the evidence for that, its job, and its data set."""
    model, data = trained["model"], trained["data"]
    yield trained["seq"]
    pinned = records.find(upto=trained["seq"], kinds=["DatasetPinned"], model=model, newest_first=True).records
    wanted = (data["dataset"].get("digest"), data["dataset"].get("version"))
    yield from [one["seq"] for one in pinned if (one["data"]["digest"], one["data"]["version"]) == wanted][:1]
    request = data["request"]
    if request is None or not 1 <= request <= upto:
        return
    yield request
    evidence = records[request - 1]["data"].get("evidence")
    if evidence is not None and 1 <= evidence <= upto:
        yield evidence
    jobs = records.find(after=request, upto=upto, kinds=["JobStarted", "JobFinished"], model=model).records
    yield from [job["seq"] for job in jobs if job["data"]["request"] == request]


def _names(record: Record, release: str) -> bool:
    data = record["data"]
    if record["release"] == release or release in [data.get(name) for name in _NAMING]:
        return True
    counted = data.get("releases")
    return (isinstance(counted, dict) and release in counted) or str(data.get("attempted")).endswith(f" {release}")
