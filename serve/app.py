"""The Serve application that the REST configuration names: `serve.app:app`.

The classes are made deployments of here, not where they stand: what Ray then keeps of each is its name, and a new
replica runs the code that is installed when it starts. A decorated class would be kept as it was, by value. How many
replicas there are, and what may be changed under load, serve.cluster.desired says.
"""

from __future__ import annotations

from typing import Any

from ray import serve as ray_serve

from serve.decision.challenger_replica import Challenger
from serve.decision.feature_replica import Features
from serve.gateway.replica import Gateway

#: What is ill is found out at once, what is busy is not taken to be ill.
_STEADY: dict[str, Any] = {
    "health_check_period_s": 1,
    "health_check_timeout_s": 10,  # shorter ones fail a busy machine's healthy replicas
    "graceful_shutdown_wait_loop_s": 0.5,
    "graceful_shutdown_timeout_s": 10,
}


def _deployment(of: type, most: int) -> Any:
    return ray_serve.deployment(max_ongoing_requests=most, **_STEADY)(of)


app = _deployment(Gateway, 2000).bind(_deployment(Challenger, 256).bind(), _deployment(Features, 512).bind())
