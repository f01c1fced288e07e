"""The Serve application that the REST configuration names: `serve.app:app`."""

from __future__ import annotations

from serve.challenger import Challenger
from serve.features import Features
from serve.gateway import Gateway

# Serve's decorator makes deployments of classes.
app = Gateway.bind(Challenger.bind(), Features.bind())  # type: ignore[attr-defined]
