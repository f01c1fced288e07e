# Written by .ci/async_client.py from plimsoll/client.py; change that one, then run `make format`.
"""`AsyncClient`: ask for decisions, and govern releases, from Python."""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Any

import httpx

from plimsoll.async_wire import AsyncWire
from plimsoll.decision import Decision, decision_of
from plimsoll.errors import Invalid
from plimsoll.frames import ROWS_MOST, columns_of, tensor
from plimsoll.wire import part

Json = dict[str, Any]
_PAGE = 500


class AsyncClient:
    """Talks to the gateway (decisions) and to the ledger service (governance).

    Args:
        token: a bearer token; `AsyncClient.sign_in` makes one from name and password.
        gateway: where decisions are answered.
        ledger: where releases are governed.
        timeout: seconds that one call may take.

    Raises (every method):
        plimsoll.Invalid: what was sent is wrong; `field` names it.
        plimsoll.Refused: a control said no; the message says what would make it acceptable.
        plimsoll.Unavailable: the other side cannot answer now.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        gateway: str = "http://127.0.0.1:8000",
        ledger: str = "http://127.0.0.1:7411",
        timeout: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._gateway = AsyncWire(gateway, token, timeout=timeout, transport=transport)
        self._ledger = AsyncWire(ledger, token, timeout=timeout, transport=transport)

    @classmethod
    async def sign_in(cls, name: str, password: str, **options: Any) -> AsyncClient:
        """A client with a fresh session of a person; `options` as for `AsyncClient`."""
        guest = cls(**options)
        try:
            session = await guest._ledger.ask("POST", "/v1/session", json={"name": name, "password": password})
        finally:
            await guest.close()
        return cls(session["token"], **options)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._gateway.close()
        await self._ledger.close()

    async def decide(
        self,
        model: str,
        features: Json | None = None,
        *,
        key: str,
        entity: Json | None = None,
        purpose: str = "customer",
    ) -> Decision:
        """Decide one case.

        Args:
            features: every feature of the model by name; or
            entity: the entity's key by name, `{"ID": 42}`: its features come from the feature store.
            key: the customer's key; the same key is always answered by the same side of a split.
            purpose: `customer`; services may ask for `verification`, which is recorded but never judged.
        """
        known = {"features": features, "entity": entity, "key": key, "purpose": purpose}
        body = {name: value for name, value in known.items() if value is not None}
        response = await self._gateway.send("POST", f"/decide/{part(model)}", json=body, again=True)
        return decision_of(response)

    async def decide_frame(self, model: str, frame: Any, *, key: str) -> Any:
        """Decide every row of a pandas or polars frame, up to 256 rows a request.

        Args:
            frame: every feature of the model as a column, and the customers' keys; other columns are not sent on.
            key: the column with the customers' keys.

        Returns:
            A frame of the same kind, a row for each row: `score`, `decision`, `decision_id`, `role`, `release`.
        """
        columns = columns_of(frame)
        if key not in columns:
            raise Invalid(f"the frame has no column {key!r}; its columns: {', '.join(columns)}", field=key)
        keys = [str(value) for value in columns.pop(key)]
        found: dict[str, list[Any]] = {}
        for start in range(0, len(keys), ROWS_MOST):
            end = start + ROWS_MOST
            inputs = [tensor(name, values[start:end]) for name, values in columns.items()]
            body = {"inputs": inputs, "parameters": {"keys": keys[start:end]}}
            answer = await self._gateway.ask("POST", f"/v2/models/{part(model)}/infer", json=body, again=True)
            for output in answer["outputs"]:
                found.setdefault(output["name"], []).extend(output["data"])
        return type(frame)(found)

    async def infer(self, model: str, inputs: list[Json], *, request_id: str | None = None) -> Json:
        """Open Inference Protocol v2: `inputs` are tensors `{"name", "shape", "datatype", "data"}`."""
        body = {"inputs": inputs} | ({"id": request_id} if request_id else {})
        answer: Json = await self._gateway.ask("POST", f"/v2/models/{part(model)}/infer", json=body, again=True)
        return answer

    async def explain(self, model: str, features: Json, *, key: str) -> Json:
        """Contributions of every feature to the score, from the model that answers this key."""
        body = {"features": features, "key": key}
        answer: Json = await self._gateway.ask("POST", f"/v2/models/{part(model)}/explain", json=body, again=True)
        return answer

    async def outcome(self, model: str, decision_id: str, outcome: int) -> None:
        """Say what became of a decision: 1 when the event that the model predicts happened, else 0."""
        await self._gateway.send(
            "POST", f"/outcome/{part(model)}", json={"decision_id": decision_id, "outcome": outcome}, again=True
        )

    async def models(self, *, search: str = "") -> dict[str, Json]:
        """Every model by name: champion, previous, challenger, share, alerts, kill.

        Args:
            search: a part of the name.
        """
        found = await self._all_pages("/v1/models", "models", search=search)
        return {model["model"]: model for model in found}

    async def model(self, model: str) -> Json:
        """One model with its jobs, and the kill switch of all models as `kill_of_all`."""
        view: Json = await self._ledger.get(f"/v1/models/{part(model)}")
        return view

    async def releases(
        self, model: str | None = None, *, state: str | None = None, limit: int | None = None
    ) -> list[Json]:
        """Releases, the one that moved last first.

        Args:
            state: in this state only, or in several with commas between them.
            limit: at most so many; all when None.
        """
        return await self._all_pages("/v1/releases", "releases", limit, model=model, state=state)

    async def release(self, release: str) -> Json:
        """One release with all its facts."""
        view: Json = await self._ledger.get(f"/v1/releases/{part(release)}")
        return view

    async def inbox(self, *, limit: int = 50) -> Json:
        """What waits for this person, worst first: `items` and `total`."""
        view: Json = await self._ledger.get("/v1/inbox", limit=limit)
        return view

    async def actions(self, subject: str | None) -> list[Json]:
        """What this person may do to a release, a model, or the kill switch of all models (None), and why not.

        Each has `verb`, `possible`, `why_not`, `next_share` and `roles`, as the ledger's rules say it now.
        """
        path = "/v1/kill" if subject is None else f"/v1/{('releases' if '@' in subject else 'models')}/{part(subject)}"
        found: list[Json] = (await self._ledger.get(f"{path}/actions"))["actions"]
        return found

    async def canary(self, release: str, reason: str) -> Json:
        """Give a registered release its first share of live traffic."""
        return await self._act(f"/v1/releases/{part(release)}/canary", {"reason": reason})

    async def review(self, release: str, decision: str, reason: str) -> Json:
        """`approve` or `reject` a release in review; never one's own."""
        body = {"decision": decision, "reason": reason}
        return await self._act(f"/v1/releases/{part(release)}/review", body, await self._seen(release))

    async def promote(self, release: str, reason: str) -> Json:
        """Begin the rollout of an approved release."""
        return await self._act(f"/v1/releases/{part(release)}/promote", {"reason": reason}, await self._seen(release))

    async def abort(self, release: str, reason: str) -> Json:
        """Take a release out of traffic and quarantine it."""
        return await self._act(f"/v1/releases/{part(release)}/abort", {"reason": reason})

    async def rollback(self, model: str, reason: str, *, to: str | None = None) -> Json:
        """Return to the previous champion, or to `baseline`."""
        return await self._act(f"/v1/models/{part(model)}/rollback", {"reason": reason, "to": to})

    async def retrain(self, model: str, folder: str, reason: str, *, options: Json | None = None) -> Json:
        """Ask for a training run on a model folder; the controller starts it."""
        body = {"reason": reason, "folder": folder, "options": options or {}}
        return await self._act(f"/v1/models/{part(model)}/retrain", body)

    async def killed(self) -> Json:
        """What is stopped: `kill` (all models, or None), `etag` of that, `models` (those stopped, by name)."""
        view: Json = await self._ledger.get("/v1/kill")
        return view

    async def kill(self, model: str | None, reason: str, *, answer: str = "baseline") -> Json:
        """Stop a model at once, or all of them (None); it stays so until two people let go.

        Args:
            answer: what customers get meanwhile: of the `baseline`, or `nothing`.
        """
        return await self._act(_switch(model), {"reason": reason, "answer": answer})

    async def ask_kill_release(self, model: str | None, reason: str) -> Json:
        """Ask to let a model go, or all of them (None); a second person has to confirm with `release_kill`."""
        return await self._act(f"{_switch(model)}/ask-release", {"reason": reason}, await self._seen_switch(model))

    async def release_kill(self, model: str | None, reason: str) -> Json:
        """Let go what somebody else asked to let go."""
        return await self._act(f"{_switch(model)}/release", {"reason": reason}, await self._seen_switch(model))

    async def start_shadow(self, release: str, reason: str) -> Json:
        """Let a registered release score copies of live requests; nothing of it is used."""
        return await self._act(f"/v1/releases/{part(release)}/shadow/start", {"reason": reason})

    async def stop_shadow(self, release: str, reason: str) -> Json:
        """End that."""
        return await self._act(f"/v1/releases/{part(release)}/shadow/stop", {"reason": reason})

    async def audit(self, **filters: Any) -> list[Json]:
        """Records of the ledger, oldest first; filters: `after`, `limit`, `kind`, `model`, `release`, `actor`."""
        records: list[Json] = (await self._ledger.get("/v1/records", **filters))["records"]
        return records

    async def query(self, name: str, **filters: Any) -> list[Json]:
        """Rows of a named query of the lineage store, e.g. `drift`, `fairness`, `lineage`, `lead_times`."""
        rows: list[Json] = (await self._ledger.get(f"/v1/query/{part(name)}", **filters))["rows"]
        return rows

    async def verify(self) -> Json:
        """Have the whole record verified: `{"ok", "records", "problems", …}`."""
        result: Json = await self._ledger.ask("GET", "/v1/verify", timeout=120.0)
        return result

    async def asof(self, model: str, *, at: str | None = None, seq: int | None = None) -> Json:
        """Which release, threshold and policy answered at that time (RFC 3339 with its zone) or record, and who put
        them there."""
        answer: Json = await self._ledger.get(f"/v1/models/{part(model)}/asof", at=at, seq=seq)
        return answer

    async def provenance(
        self, *, release: str | None = None, dataset: str | None = None, model: str | None = None
    ) -> dict[str, list[Json]]:
        """Where a release comes from and what came of a data set: `{"nodes": […], "edges": […]}`."""
        graph: dict[str, list[Json]] = await self._ledger.get(
            "/v1/provenance", release=release, dataset=dataset, model=model
        )
        return graph

    async def rebuild_store(self) -> Json:
        """Make the lineage store anew from the log: `{"records", "seconds"}`."""
        done: Json = await self._ledger.ask("POST", "/v1/store/rebuild", timeout=600.0)
        return done

    async def proof(self, seq: int, *, size: int | None = None) -> Json:
        """One record with its inclusion proof and the checkpoint that it leads to, for an outsider to check."""
        bundle: Json = await self._ledger.get(f"/v1/proof/{seq}", size=size)
        return bundle

    async def checkpoint(self, *, cosigned: bool = False) -> str:
        """The newest checkpoint as a signed note; keep it, and the record behind it can never be denied."""
        return (await self._ledger.send("GET", "/v1/checkpoint", params={"cosigned": cosigned or None})).text

    async def dossier(self, release: str, *, upto: int | None = None) -> bytes:
        """Everything about one release with its proofs and the verifier, as a zip.

        Args:
            upto: the record at which it stands; the newest about the release when None.
        """
        path = f"/v1/releases/{part(release)}/dossier"
        return (await self._ledger.send("GET", path, params={"upto": upto}, timeout=120.0)).content

    async def decision(self, decision_id: str) -> Json:
        """One answered request as recorded, and where the record of it lies."""
        found: Json = await self._ledger.get(f"/v1/decisions/{part(decision_id)}")
        return found

    async def subject_history(self, subject: str) -> Json:
        """Every decision about one person."""
        return await self._about("history", {"subject": subject})

    async def erase(self, subject: str, reason: str, *, identity_verified: bool = False) -> Json:
        """Destroy the key of one person's data; answers with what was touched."""
        return await self._about(
            "erase", {"subject": subject, "reason": reason, "identity_verified": identity_verified}
        )

    async def hold(self, subject: str, reason: str) -> Json:
        """Forbid the erasure of one person's data, e.g. while a court wants it."""
        return await self._about("hold", {"subject": subject, "reason": reason})

    async def release_hold(self, subject: str, reason: str) -> Json:
        """Allow the erasure again."""
        return await self._about("release-hold", {"subject": subject, "reason": reason})

    async def _about(self, verb: str, body: Json) -> Json:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        answer: Json = await self._ledger.ask("POST", f"/v1/subjects/{verb}", json=body, headers=headers, timeout=120.0)
        return answer

    async def _all_pages(self, path: str, name: str, most: int | None = None, **filters: Any) -> list[Json]:
        """Every entry of a paged listing, read page by page."""
        found: list[Json] = []
        while most is None or len(found) < most:
            limit = _PAGE if most is None else min(_PAGE, most - len(found))
            page = await self._ledger.get(path, offset=len(found), limit=limit, **filters)
            found += page[name]
            if not page[name] or len(found) >= page["total"]:
                break
        return found

    async def _seen(self, release: str) -> str:
        etag = (await self.release(release))["etag"]
        return f'"{etag}"'

    async def _seen_switch(self, model: str | None) -> str:
        view = await self.killed() if model is None else await self._ledger.get(f"/v1/models/{part(model)}")
        return f'"{view["etag"]}"'

    async def _act(self, path: str, body: Json, etag: str | None = None) -> Json:
        headers = {"Idempotency-Key": uuid.uuid4().hex} | ({"If-Match": etag} if etag else {})
        record: Json = await self._ledger.ask("POST", path, json=body, headers=headers)
        return record


def _switch(model: str | None) -> str:
    return "/v1/kill" if model is None else f"/v1/models/{part(model)}/kill"
