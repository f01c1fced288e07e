"""`python -m benchmarks.serving.peer_ray MODEL PORT FOLDER`: the bare model on Ray Serve with Serve's defaults.

A Ray of its own, Ray's Python proxy, one replica, a plain `__call__`. Ends with SIGTERM, and all of that Ray with it.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import ray
from ray import serve as ray_serve
from starlette.requests import Request


@ray_serve.deployment
class Bare:
    """Deployment of the bare model."""

    def __init__(self, model: str) -> None:
        import xgboost

        self._booster = xgboost.Booster({"nthread": 1})
        self._booster.load_model(model)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """The score of one row."""
        import numpy as np

        rows = np.array([(await request.json())["row"]], dtype=np.float64)
        return {"score": float(self._booster.inplace_predict(rows, validate_features=False)[0])}


def main(model: str, port: int, folder: str) -> None:
    """Serve until SIGTERM."""
    over = threading.Event()
    ray.init(address="local", include_dashboard=False, logging_level="ERROR", _temp_dir=folder)
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    ray_serve.start(http_options={"host": "127.0.0.1", "port": port})
    ray_serve.run(Bare.bind(model), route_prefix="/")  # type: ignore[attr-defined]
    over.wait()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
