"""The Serve application that the REST configuration names: `serve.app:app`."""

from __future__ import annotations

from serve.challenger import Challenger
from serve.gateway import Gateway

app = Gateway.bind(Challenger.bind())  # type: ignore[attr-defined]  # Serve's decorator makes deployments of classes
