"""Options of every deployment of ours: what is ill is found out at once, what is busy is not taken to be ill."""

from __future__ import annotations

from typing import Any

STEADY: dict[str, Any] = {
    "health_check_period_s": 1,
    "health_check_timeout_s": 10,  # shorter ones fail a busy machine's healthy replicas
    "graceful_shutdown_wait_loop_s": 0.5,
    "graceful_shutdown_timeout_s": 10,
    "ray_actor_options": {"num_cpus": 0},
}
