"""Client of the ledger for the platform's own services: append facts, read the fold, follow the log."""

from __future__ import annotations

import uuid
from typing import Any

import httpx

from plimsoll.wire import Wire, part

Record = dict[str, Any]


class Ledger:
    """Connection of a service to the ledger.

    Args:
        url: of the ledger service, e.g. `http://127.0.0.1:7411`.
        token: the bearer token of a machine account.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 10.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._wire = Wire(url, token, timeout=timeout, transport=transport)

    def append(
        self,
        kind: str,
        *,
        data: dict[str, Any],
        model: str | None = None,
        release: str | None = None,
        reason: str | None = None,
        key: str | None = None,
    ) -> Record:
        """Append one fact; when this returns it is on disk.

        Args:
            key: idempotency key; the same key and content return the first record. Random when absent.

        Raises:
            plimsoll.errors.Refused: a guard of the release state machine refused.
            plimsoll.errors.Invalid: the fact is not well formed.
        """
        body = {"kind": kind, "model": model, "release": release, "reason": reason, "data": data}
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        record: Record = self._wire.ask("POST", "/v1/facts", json=body, headers=headers)
        return record

    def changes(self, after: int = 0) -> dict[str, Any]:
        """Changes by records after `after`: `{"seq", "kill", "models": {...}, "releases": {...}}`.

        `kill` is the switch of all models. `releases` are those of the changed models that may answer or move.
        """
        changes: dict[str, Any] = self._wire.get("/v1/changes", after=after)
        return changes

    def model(self, model: str) -> dict[str, Any]:
        """One model of the fold."""
        view: dict[str, Any] = self._wire.get(f"/v1/models/{part(model)}")
        return view

    def release(self, release: str) -> dict[str, Any]:
        """One release of the fold, with its facts under `facts`."""
        view: dict[str, Any] = self._wire.get(f"/v1/releases/{part(release)}")
        return view

    def records(
        self,
        after: int = 0,
        limit: int = 500,
        kind: str | None = None,
        model: str | None = None,
        release: str | None = None,
        wait: float = 0.0,
    ) -> dict[str, Any]:
        """Records with `seq > after`, oldest first: `{"records": [...], "head": seq}`.

        Args:
            wait: seconds to wait for the first new record when there is none (long poll).
        """
        params = {"after": after, "limit": limit, "kind": kind, "model": model, "release": release, "wait": wait}
        page: dict[str, Any] = self._wire.ask("GET", "/v1/records", params=params, timeout=wait + 10.0)
        return page

    def gateway_tokens(self) -> dict[str, dict[str, str]]:
        """SHA-256 of every live token that may call the gateway: `{hex: {"name", "role"}}`."""
        tokens: dict[str, dict[str, str]] = self._wire.get("/v1/gateway-tokens")
        return tokens

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()
