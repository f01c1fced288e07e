"""Serve application that the REST configuration names: `serve.app:app`.

Deployments are made here instead of by decorators, so that Ray keeps each class by its name and a new replica runs the
code that is installed when it starts; a decorated class would be stored by value. `serve.cluster.desired` sets the
number of replicas and what may be changed under load.
"""

from __future__ import annotations

from typing import Any

from ray import serve as ray_serve

from serve.decision.challenger_replica import Challenger
from serve.decision.feature_replica import Features
from serve.gateway.replica import Gateway

#: Probe every second to notice failures fast; allow 10 s so that a busy replica is not taken for dead.
_HEALTH: dict[str, Any] = {
    "health_check_period_s": 1,
    "health_check_timeout_s": 10,  # shorter ones fail a busy machine's healthy replicas
    "graceful_shutdown_wait_loop_s": 0.5,
    "graceful_shutdown_timeout_s": 10,
}


def _deployment(of: type, most: int) -> Any:
    return ray_serve.deployment(max_ongoing_requests=most, **_HEALTH)(of)


app = _deployment(Gateway, 2000).bind(_deployment(Challenger, 256).bind(), _deployment(Features, 512).bind())
