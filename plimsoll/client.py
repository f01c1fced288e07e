"""`Client`: request decisions and govern releases from Python."""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Any

import httpx

from plimsoll.decision import Decision, decision_of
from plimsoll.errors import Invalid
from plimsoll.frames import ROWS_MOST, columns_of, tensor
from plimsoll.wire import Wire, part, reason_header

Json = dict[str, Any]
_PAGE = 500


class Client:
    """Client of the gateway (decisions) and of the ledger service (governance).

    Args:
        token: a bearer token; `Client.sign_in` makes one from name and password.
        gateway: base URL of the gateway.
        ledger: base URL of the ledger service.
        timeout: seconds that one call may take.

    Raises (every method):
        plimsoll.Invalid: what was sent is wrong; `field` names it.
        plimsoll.Refused: a control refused; the message says what would be acceptable.
        plimsoll.Unavailable: the service cannot answer now.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        gateway: str = "http://127.0.0.1:8000",
        ledger: str = "http://127.0.0.1:7411",
        timeout: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._gateway = Wire(gateway, token, timeout=timeout, transport=transport)
        self._ledger = Wire(ledger, token, timeout=timeout, transport=transport)

    @classmethod
    def sign_in(cls, name: str, password: str, **options: Any) -> Client:
        """A client with a fresh session of a person; `options` as for `Client`."""
        guest = cls(**options)
        try:
            session = guest._ledger.ask("POST", "/v1/session", json={"name": name, "password": password})
        finally:
            guest.close()
        return cls(session["token"], **options)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._gateway.close()
        self._ledger.close()

    # Decisions

    def decide(
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
            key: the customer's key; the same key always falls on the same arm of a split.
            purpose: `customer`; services may use `verification`, which is recorded but not judged.
        """
        known = {"features": features, "entity": entity, "key": key, "purpose": purpose}
        body = {name: value for name, value in known.items() if value is not None}
        response = self._gateway.send("POST", f"/decide/{part(model)}", json=body, again=True)
        return decision_of(response)

    def decide_frame(self, model: str, frame: Any, *, key: str) -> Any:
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
            answer = self._gateway.ask("POST", f"/v2/models/{part(model)}/infer", json=body, again=True)
            for output in answer["outputs"]:
                found.setdefault(output["name"], []).extend(output["data"])
        return type(frame)(found)

    def infer(self, model: str, inputs: list[Json], *, request_id: str | None = None) -> Json:
        """Open Inference Protocol v2: `inputs` are tensors `{"name", "shape", "datatype", "data"}`."""
        body = {"inputs": inputs} | ({"id": request_id} if request_id else {})
        answer: Json = self._gateway.ask("POST", f"/v2/models/{part(model)}/infer", json=body, again=True)
        return answer

    def explain(self, model: str, features: Json, *, key: str) -> Json:
        """Contributions of every feature to the score, from the model that answers this key."""
        body = {"features": features, "key": key}
        answer: Json = self._gateway.ask("POST", f"/v2/models/{part(model)}/explain", json=body, again=True)
        return answer

    def outcome(self, model: str, decision_id: str, outcome: int) -> None:
        """Report the outcome of a decision: 1 when the event that the model predicts happened, else 0."""
        self._gateway.send(
            "POST", f"/outcome/{part(model)}", json={"decision_id": decision_id, "outcome": outcome}, again=True
        )

    # Releases

    def models(self, *, search: str = "") -> dict[str, Json]:
        """Every model by name: champion, previous, challenger, share, alerts, kill.

        Args:
            search: a part of the name.
        """
        found = self._all_pages("/v1/models", "models", search=search)
        return {model["model"]: model for model in found}

    def model(self, model: str) -> Json:
        """One model with its jobs, and the kill switch of all models as `kill_of_all`."""
        view: Json = self._ledger.get(f"/v1/models/{part(model)}")
        return view

    def releases(self, model: str | None = None, *, state: str | None = None, limit: int | None = None) -> list[Json]:
        """Releases, the most recently changed first.

        Args:
            state: one state, or several separated by commas.
            limit: maximum number; all when None.
        """
        return self._all_pages("/v1/releases", "releases", limit, model=model, state=state)

    def release(self, release: str) -> Json:
        """One release with all its facts."""
        view: Json = self._ledger.get(f"/v1/releases/{part(release)}")
        return view

    def inbox(self, *, limit: int = 50) -> Json:
        """Tasks that wait for this person, worst first: `items` and `total`."""
        view: Json = self._ledger.get("/v1/inbox", limit=limit)
        return view

    def actions(self, subject: str | None) -> list[Json]:
        """Actions on a release, a model, or the kill switch of all models (None), by a dry run of the ledger's rules.

        Each has `verb`, `possible`, `why_not`, `next_share` and `roles`, for this person and now.
        """
        path = "/v1/kill" if subject is None else f"/v1/{'releases' if '@' in subject else 'models'}/{part(subject)}"
        found: list[Json] = self._ledger.get(f"{path}/actions")["actions"]
        return found

    def canary(self, release: str, reason: str) -> Json:
        """Give a registered release its first share of live traffic."""
        return self._act(f"/v1/releases/{part(release)}/canary", {"reason": reason})

    def review(self, release: str, decision: str, reason: str) -> Json:
        """`approve` or `reject` a release in review; never one's own."""
        body = {"decision": decision, "reason": reason}
        return self._act(f"/v1/releases/{part(release)}/review", body, self._seen(release))

    def promote(self, release: str, reason: str) -> Json:
        """Begin the rollout of an approved release."""
        return self._act(f"/v1/releases/{part(release)}/promote", {"reason": reason}, self._seen(release))

    def abort(self, release: str, reason: str) -> Json:
        """Take a release out of traffic and quarantine it."""
        return self._act(f"/v1/releases/{part(release)}/abort", {"reason": reason})

    def rollback(self, model: str, reason: str, *, to: str | None = None) -> Json:
        """Return to the previous champion, or to `baseline`."""
        return self._act(f"/v1/models/{part(model)}/rollback", {"reason": reason, "to": to})

    def retrain(self, model: str, folder: str, reason: str, *, options: Json | None = None) -> Json:
        """Request a training run on a model folder; the controller starts it."""
        body = {"reason": reason, "folder": folder, "options": options or {}}
        return self._act(f"/v1/models/{part(model)}/retrain", body)

    # Stopping

    def killed(self) -> Json:
        """What is stopped: `kill` (all models, or None), `etag` of that, `models` (those stopped, by name)."""
        view: Json = self._ledger.get("/v1/kill")
        return view

    def kill(self, model: str | None, reason: str, *, answer: str = "baseline") -> Json:
        """Stop a model at once, or all models (None), until two people release the switch.

        Args:
            answer: what customers get meanwhile: `baseline` or `nothing`.
        """
        return self._act(_switch(model), {"reason": reason, "answer": answer})

    def ask_kill_release(self, model: str | None, reason: str) -> Json:
        """Request the release of a kill switch; a second person has to confirm it with `release_kill`."""
        return self._act(f"{_switch(model)}/ask-release", {"reason": reason}, self._seen_switch(model))

    def release_kill(self, model: str | None, reason: str) -> Json:
        """Release a kill switch whose release another person requested."""
        return self._act(f"{_switch(model)}/release", {"reason": reason}, self._seen_switch(model))

    def start_shadow(self, release: str, reason: str) -> Json:
        """Let a registered release score copies of live requests; its answers are not used."""
        return self._act(f"/v1/releases/{part(release)}/shadow/start", {"reason": reason})

    def stop_shadow(self, release: str, reason: str) -> Json:
        """Stop scoring copies of live requests."""
        return self._act(f"/v1/releases/{part(release)}/shadow/stop", {"reason": reason})

    # Audit

    def audit(self, **filters: Any) -> list[Json]:
        """Records of the ledger, oldest first; filters: `after`, `limit`, `kind`, `model`, `release`, `actor`."""
        records: list[Json] = self._ledger.get("/v1/records", **filters)["records"]
        return records

    def query(self, name: str, *, reason: str | None = None, **filters: Any) -> list[Json]:
        """Rows of a named query of the lineage store, e.g. `drift`, `fairness`, `lineage`, `lead_times`.

        Args:
            reason: why, for `decisions` and `outcomes`: they are about customers, and the read goes on record.
        """
        rows: list[Json] = self.answer(name, reason=reason, **filters)["rows"]
        return rows

    def answer(self, name: str, *, reason: str | None = None, **filters: Any) -> Json:
        """As `query`: `rows`, and `missing_segments` that could hold more of them and cannot be used."""
        path, headers = f"/v1/query/{part(name)}", reason_header(reason)
        found: Json = self._ledger.ask("GET", path, params=filters, headers=headers)
        return found

    def verify(self) -> Json:
        """Verify the whole record: `{"ok", "records", "problems", …}`."""
        result: Json = self._ledger.ask("GET", "/v1/verify", timeout=120.0)
        return result

    def asof(self, model: str, *, at: str | None = None, seq: int | None = None) -> Json:
        """Release, threshold and policy that answered at a time or record, and who released them.

        Args:
            at: RFC 3339 with its zone.
        """
        answer: Json = self._ledger.get(f"/v1/models/{part(model)}/asof", at=at, seq=seq)
        return answer

    def provenance(
        self, *, release: str | None = None, dataset: str | None = None, model: str | None = None
    ) -> dict[str, list[Json]]:
        """Origin of a release, or what was made from a data set: `{"nodes": […], "edges": […]}`."""
        graph: dict[str, list[Json]] = self._ledger.get("/v1/provenance", release=release, dataset=dataset, model=model)
        return graph

    def rebuild_store(self) -> Json:
        """Rebuild the lineage store from the log: `{"records", "seconds"}`."""
        done: Json = self._ledger.ask("POST", "/v1/store/rebuild", timeout=600.0)
        return done

    def proof(self, seq: int, *, size: int | None = None) -> Json:
        """One record with its inclusion proof and checkpoint, to be verified without this platform."""
        bundle: Json = self._ledger.get(f"/v1/proof/{seq}", size=size)
        return bundle

    def checkpoint(self, *, cosigned: bool = False) -> str:
        """The newest checkpoint as a signed note; kept elsewhere, it proves the record up to its size."""
        return self._ledger.send("GET", "/v1/checkpoint", params={"cosigned": cosigned or None}).text

    def dossier(self, release: str, *, upto: int | None = None) -> bytes:
        """Everything about one release with its proofs and the verifier, as a zip.

        Args:
            upto: number of its last record; the newest about the release when None.
        """
        path = f"/v1/releases/{part(release)}/dossier"
        return self._ledger.send("GET", path, params={"upto": upto}, timeout=120.0).content

    # Keys

    def keys(self) -> list[Json]:
        """The keys that sign the record and the bundles, with the records for which each signs."""
        found: list[Json] = self._ledger.get("/v1/key-eras")["keys"]
        return found

    def rotate_key(self, key: str, reason: str) -> Json:
        """Replace the key `ledger` or `bundle`; what the former one signed stays valid."""
        return self._act(f"/v1/keys/{part(key)}/rotate", {"reason": reason})

    def revoke_key(self, key: str, key_id: str, reason: str, *, from_record: int | None = None) -> Json:
        """Have a former key count no longer.

        Args:
            from_record: the first record for which it does not count; the next one when None, 1 for none at all.
        """
        return self._act(f"/v1/keys/{part(key)}/revoke", {"reason": reason, "id": key_id, "from_record": from_record})

    # Decisions and the people they are about

    def decision(self, decision_id: str, reason: str) -> Json:
        """One decision as recorded, and where its record is stored. That it was looked at, and why, goes on record."""
        path = f"/v1/decisions/{part(decision_id)}"
        found: Json = self._ledger.ask("GET", path, headers=reason_header(reason))
        return found

    def subject_history(self, subject: str, reason: str) -> Json:
        """Every decision about one person. That it was looked at, and why, goes on record."""
        return self._about("history", {"subject": subject, "reason": reason})

    def erase(self, subject: str, reason: str, *, identity_verified: bool = False) -> Json:
        """Destroy the key of one person's data; returns what was affected."""
        return self._about("erase", {"subject": subject, "reason": reason, "identity_verified": identity_verified})

    def hold(self, subject: str, reason: str) -> Json:
        """Forbid the erasure of one person's data, e.g. for a court."""
        return self._about("hold", {"subject": subject, "reason": reason})

    def release_hold(self, subject: str, reason: str) -> Json:
        """Allow the erasure of one person's data again."""
        return self._about("release-hold", {"subject": subject, "reason": reason})

    def _about(self, verb: str, body: Json) -> Json:
        # The person is named in the body, because URLs are written to logs.
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        answer: Json = self._ledger.ask("POST", f"/v1/subjects/{verb}", json=body, headers=headers, timeout=120.0)
        return answer

    def _all_pages(self, path: str, name: str, most: int | None = None, **filters: Any) -> list[Json]:
        """Every entry of a paged listing, read page by page."""
        found: list[Json] = []
        while most is None or len(found) < most:
            limit = _PAGE if most is None else min(_PAGE, most - len(found))
            page = self._ledger.get(path, offset=len(found), limit=limit, **filters)
            found += page[name]
            if not page[name] or len(found) >= page["total"]:
                break
        return found

    def _seen(self, release: str) -> str:
        etag = self.release(release)["etag"]
        return f'"{etag}"'

    def _seen_switch(self, model: str | None) -> str:
        view = self.killed() if model is None else self._ledger.get(f"/v1/models/{part(model)}")
        return f'"{view["etag"]}"'

    def _act(self, path: str, body: Json, etag: str | None = None) -> Json:
        headers = {"Idempotency-Key": uuid.uuid4().hex} | ({"If-Match": etag} if etag else {})
        record: Json = self._ledger.ask("POST", path, json=body, headers=headers)
        return record


def _switch(model: str | None) -> str:
    return "/v1/kill" if model is None else f"/v1/models/{part(model)}/kill"
