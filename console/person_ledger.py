"""What one signed-in person reads of the ledger and asks of it: typed views, with their own token and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from console.ledger_client import CLIENT, Json, LedgerClient
from console.model_now import ModelNow
from console.session import Person, signed_in
from lineage.rules.views import Inbox, Offers, inbox_view, offers_view
from lineage.state.entities import Model, Release
from lineage.state.safety import Kill
from lineage.state.views import (
    ModelsPage,
    ReleasesPage,
    kill_view,
    model_view,
    models_view,
    release_view,
    releases_view,
)

#: The subject that stands for the kill switch of all models; no model has this name.
ALL_MODELS = "*"


@dataclass(frozen=True)
class ReleaseFile:
    """A release with its own records, oldest first."""

    release: Release
    records: list[Json]


@dataclass
class PersonLedger:
    """The ledger client with one person's token; made anew for each request.

    `versions` collects which record each answer includes, so that what is made of them has a version.
    """

    client: LedgerClient
    person: Person
    versions: list[int] = field(default_factory=list)

    @property
    def version(self) -> int:
        """The record up to which everything that was read is complete; 0 when nothing was read."""
        return min(self.versions, default=0)

    async def get(self, path: str, **params: Any) -> Json:
        """GET a JSON object."""
        body, seq = await self.client.read(self.person.token, path, params)
        if seq:
            self.versions.append(seq)
        return body

    async def records(self, limit: int, offset: int = 0, **filters: Any) -> Json:
        """Records, newest first: `{"records", "head", "total"}`; filters are kind, model, release, actor."""
        page = await self.get("/v1/records", order="newest", limit=limit, offset=offset, **filters)
        self.versions.append(page["head"])
        return page

    async def newest(self, limit: int, **filters: Any) -> list[Json]:
        """The newest records that match."""
        found: list[Json] = (await self.records(limit, **filters))["records"]
        return found

    async def model(self, model: str) -> tuple[Model, Kill | None]:
        """A model with its jobs, and the kill switch of all models."""
        content = await self.get(f"/v1/models/{quote(model, safe='')}")
        return model_view(content), kill_view(content.get("kill_of_all"))

    async def model_now(self, model: str) -> ModelNow:
        """A model and the kill switch of all models."""
        return ModelNow(*await self.model(model))

    async def models(self, *, search: str = "", offset: int = 0, limit: int = 100) -> ModelsPage:
        """Models by name."""
        return models_view(await self.get("/v1/models", search=search, offset=offset, limit=limit))

    async def release(self, release: str) -> ReleaseFile:
        """A release with its records."""
        content = await self.get(f"/v1/releases/{quote(release, safe='@')}")
        return ReleaseFile(release_view(content), content["facts"])

    async def releases(
        self, *, model: str = "", state: str = "", search: str = "", offset: int = 0, limit: int = 100
    ) -> ReleasesPage:
        """Releases, the one that moved last first; `model` and `state` may be several with commas."""
        params = {"model": model, "state": state, "search": search, "offset": offset, "limit": limit}
        return releases_view(await self.get("/v1/releases", **params))

    async def inbox(self, limit: int = 50) -> Inbox:
        """What waits for this person, worst first."""
        return inbox_view(await self.get("/v1/inbox", limit=limit))

    async def stopped(self, limit: int) -> ModelsPage:
        """The kill switch of all models, and models that are killed or have open breakers."""
        return models_view(await self.get("/v1/stopped", limit=limit))

    async def offers(self, subject: str) -> Offers:
        """What this person may do to a release, a model, or the kill switch of all models (`ALL_MODELS`)."""
        return offers_view(await self.get(f"{path_of(subject)}/actions"))

    async def act(self, path: str, body: Json, *, key: str, etag: int | None) -> Json:
        """A mutating call; the record it left."""
        return await self.client.act(self.person.token, path, body, key=key, etag=etag)


def person_ledger() -> PersonLedger:
    """The ledger for the person of this request.

    Raises:
        LookupError: the request has no session.
    """
    return PersonLedger(CLIENT.get(), signed_in())


def path_of(subject: str) -> str:
    """Where the ledger serves a release, a model, or the kill switch of all models."""
    if subject == ALL_MODELS:
        return "/v1/kill"
    return f"/v1/{'releases' if '@' in subject else 'models'}/{quote(subject, safe='@')}"
