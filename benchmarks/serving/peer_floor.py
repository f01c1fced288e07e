"""`python -m benchmarks.serving.peer_floor MODEL PORT`: the floor, a model in a bare Starlette on one uvicorn worker.

`/score` calls XGBoost's Python interface. `/direct` calls it as the platform's boosted trees do, which shows the
difference without that advantage.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from validators.scoring.families.boosted_trees import parse
from validators.scoring.xgboost_without_sklearn import import_xgboost


def application(model: Path) -> Starlette:
    """Two ways to the same score."""
    booster = import_xgboost().Booster({"nthread": 1})
    booster.load_model(model)
    ours = parse(model.name, model.read_bytes())

    async def score(request: Request) -> Response:
        rows = np.array([orjson.loads(await request.body())["row"]], dtype=np.float64)
        scores = booster.inplace_predict(rows, validate_features=False)
        return Response(orjson.dumps({"score": float(scores[0])}), media_type="application/json")

    async def direct(request: Request) -> Response:
        rows = np.array([orjson.loads(await request.body())["row"]], dtype=np.float64)
        return Response(orjson.dumps({"score": float(ours.score(rows)[0])}), media_type="application/json")

    return Starlette(routes=[Route("/score", score, methods=["POST"]), Route("/direct", direct, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(
        application(Path(sys.argv[1])),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="error",
    )
