"""500 and 5,000 distinct models in one process: memory against a bare Booster, loading, and scoring any of them.

200 trees, depth 6, 30 features. The models are one trained booster with other leaves, in bundles as training writes
them; `PLIMSOLL_BENCH=quick` leaves out the 5,000. Each measurement runs in a process of its own. Scoring is what a
request needs of a model in process: find it, parse 30 named features, score. The hot model and random ones take turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.serving.home import describe, write_bundle
from benchmarks.serving.model import NAMES, WIDTH, rows, trained
from lineage.settings import Settings
from lineage.signing import make_keys
from serve.models.bundle_store import BundleStore
from serve.models.sandbox_client import process_sandbox
from serve.routes import Target
from validators.scoring.bundle import parse_features
from validators.scoring.xgboost_without_sklearn import import_xgboost

COUNTS, ROUNDS, ASKED = (500, 5_000), 20, 500
_MIB = 1024 * 1024
_BUDGET_MIB = 7_000


def run() -> Iterator[str]:
    """The table, for each count."""
    counts = COUNTS[:1] if os.environ.get("PLIMSOLL_BENCH") == "quick" else COUNTS
    with tempfile.TemporaryDirectory(dir=".") as place:
        home = Path(place).resolve() / "home"
        for count in counts:
            targets = _fill(Settings(home=home), count)
            bare, ours = (_measured(mode, home, targets) for mode in ("bare", "store"))
            yield from _lines(count, bare, ours)
        churned = _measured("churn", home, targets[: COUNTS[0]])
        yield (
            f"budget 100 MiB, {churned['fetched']} random fetches: {churned['milliseconds']:.1f} ms each (median), "
            f"{churned['resident']} resident, accounted {churned['accounted']:.0f} MiB, "
            f"measured {churned['measured']:.0f} MiB"
        )


def _lines(count: int, bare: dict[str, float], ours: dict[str, float]) -> Iterator[str]:
    yield (
        f"{count} models  bare Booster {bare['each']:.3f} MiB, in a Bundle {ours['each']:.3f} MiB, "
        f"ratio {ours['each'] / bare['each']:.3f}; the store accounts {ours['accounted']:.3f} MiB"
    )
    yield (
        f"  loaded in {ours['seconds']:.1f} s, {ours['seconds'] / count * 1e3:.1f} ms each, sandbox and all "
        f"(bare {bare['seconds'] / count * 1e3:.1f} ms); again after eviction {ours['again']:.1f} ms; "
        f"sandbox {ours['sandbox']:.0f} MiB"
    )
    for name, measured in (("Booster", bare), ("Bundle", ours)):
        yield (
            f"  {name:<8} parse and score  hot p50 {measured['hot_50']:.0f} p99 {measured['hot_99']:.0f} µs, "
            f"random p50 {measured['any_50']:.0f} p99 {measured['any_99']:.0f} µs; p99 ratio {measured['ratio']:.2f} "
            f"({measured['ratio_low']:.2f} to {measured['ratio_high']:.2f} in half of the rounds)"
        )


def _fill(settings: Settings, count: int) -> list[Target]:
    """Bundles of `count` distinct models; those of an earlier call are counted."""
    make_keys(settings)
    settings.artefacts.mkdir(parents=True, exist_ok=True)
    listed = settings.root / "targets.json"
    digests: list[str] = json.loads(listed.read_text()) if listed.exists() else []
    original = bytes(trained().save_raw("ubj"))
    for number in range(len(digests), count):
        spec = describe(f"model-{number}", "adverse", 0.5, "sha256:" + "0" * 64)
        digest, _ = write_bundle(settings, _with_other_leaves(original, number), spec, {})
        digests.append(digest)
    listed.write_text(json.dumps(digests))
    return [Target(f"model-{number}@1", digest) for number, digest in enumerate(digests)]


def _with_other_leaves(original: bytes, seed: int) -> bytes:
    """A model of the same shape that answers differently: every leaf is changed by a few per cent."""
    content, draw = bytearray(original), np.random.default_rng(seed)
    at = 0
    while (at := content.find(b"left_children[$l#L", at)) >= 0:
        children, at = _numbers(content, at, b"left_children[$l#L", ">i4"), at + 1
        values = _numbers(content, content.find(b"split_conditions[$d#L", at), b"split_conditions[$d#L", ">f4")
        leaves = children == -1
        values[leaves] *= draw.normal(1.0, 0.03, int(leaves.sum())).astype(np.float32)
    return bytes(content)


def _numbers(content: bytearray, at: int, name: bytes, kind: str) -> Any:
    """A mutable view of a typed array in Universal Binary JSON."""
    at += len(name)
    count = int.from_bytes(content[at : at + 8])
    return np.frombuffer(content, dtype=kind, count=count, offset=at + 8)


def _measured(mode: str, home: Path, targets: list[Target]) -> dict[str, float]:
    command = (sys.executable, "-m", "benchmarks.resident", mode, str(home), str(len(targets)))
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _memory(process: int | str = "self") -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def _bare(settings: Settings, targets: list[Target]) -> dict[str, float]:
    """The baseline without the platform: read the file, load it, keep it."""
    xgb = import_xgboost()
    paths = [settings.artefacts / target.folder / "model.ubj" for target in targets]
    _load_bare(xgb, paths[0])
    before, began = _memory(), time.perf_counter()
    kept = [_load_bare(xgb, path) for path in paths]
    seconds = time.perf_counter() - began
    each = (_memory() - before) / len(kept)

    def ask(which: int, features: dict[str, Any]) -> None:
        kept[which].inplace_predict(np.array([[features[name] for name in NAMES]]), validate_features=False)

    return {"each": each, "seconds": seconds} | _speed(ask, len(kept))


def _load_bare(xgb: Any, path: Path) -> Any:
    booster = xgb.Booster()
    booster.load_model(bytearray(path.read_bytes()))
    booster.set_param({"nthread": 1})
    booster.inplace_predict(np.zeros((1, WIDTH)))
    return booster


def _store(settings: Settings, targets: list[Target]) -> dict[str, float]:
    store = BundleStore(settings)
    store.warm()
    first = BundleStore(settings)
    first.load(targets[:1])
    before, began = _memory(), time.perf_counter()
    store.load(targets)
    seconds = time.perf_counter() - began
    if store.resident != len(targets):
        raise RuntimeError(f"{store.resident} of {len(targets)} are resident: {list(store.refused.values())[:1]}")
    measured = {
        "each": (_memory() - before) / len(targets),
        "accounted": store.memory_bytes / _MIB / len(targets),
        "seconds": seconds,
        "sandbox": _memory(process_sandbox().pid or "self"),
    }

    def ask(which: int, features: dict[str, Any]) -> None:
        bundle = store.get(targets[which])
        if bundle is None:
            raise RuntimeError(f"{targets[which].release} is not resident")
        bundle.model.score(parse_features(bundle, features))

    return measured | _speed(ask, len(targets)) | {"again": _again(settings, targets)}


def _again(settings: Settings, targets: list[Target]) -> float:
    """Milliseconds of a repeated load in a replica that has verified the bundle before."""
    store, chosen = BundleStore(settings), Random(1).sample(targets, 50)
    began = time.perf_counter()
    store.load(chosen)
    return (time.perf_counter() - began) / len(chosen) * 1e3


def _speed(ask: Callable[[int, dict[str, Any]], object], count: int) -> dict[str, float]:
    """Microseconds of scoring model 0 and a random one of `count`, in alternating rounds."""
    draw = Random(1)
    asked = [dict(zip(NAMES, row, strict=True)) for row in rows(ASKED, seed=6).tolist()]
    taken: dict[str, list[list[float]]] = {"hot": [], "any": []}
    for number in range(ROUNDS + 1):
        plans = {"hot": [0] * ASKED, "any": draw.choices(range(count), k=ASKED)}
        for name in sorted(plans, reverse=bool(number % 2)):
            times = []
            for which, features in zip(plans[name], asked, strict=True):
                began = time.perf_counter()
                ask(which, features)
                times.append((time.perf_counter() - began) * 1e6)
            if number:  # the first round warms up
                taken[name].append(times)
    measured = {}
    for name, rounds in taken.items():
        percentiles = statistics.quantiles([one for times in rounds for one in times], n=100)
        measured |= {f"{name}_50": percentiles[49], f"{name}_99": percentiles[98]}
    ratios = [
        statistics.quantiles(one, n=100)[98] / statistics.quantiles(other, n=100)[98]
        for one, other in zip(taken["any"], taken["hot"], strict=True)
    ]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return measured | {"ratio": middle, "ratio_low": low, "ratio_high": high}


def _churn(settings: Settings, targets: list[Target]) -> dict[str, float]:
    """A working set of five times the budget: the cost of loading on demand, and memory against the budget."""
    store, draw = BundleStore(settings.model_copy(update={"model_memory_mib": 100})), Random(1)
    store.load(targets)
    times = []

    async def fetch_all() -> None:
        for target in draw.choices(targets, k=1_000):
            if store.get(target) is None:
                began = time.perf_counter()
                await store.get_or_load(target)
                times.append(time.perf_counter() - began)

    start = _memory()
    asyncio.run(fetch_all())
    accounted = store.memory_bytes / _MIB
    return {
        "fetched": len(times),
        "milliseconds": statistics.median(times) * 1e3,
        "resident": store.resident,
        "accounted": accounted,
        "measured": accounted + _memory() - start,
    }


def main(mode: str, home: str, count: str) -> None:
    """Measure one thing and print it as JSON."""
    settings = Settings(home=Path(home), model_memory_mib=_BUDGET_MIB)
    digests = json.loads((settings.root / "targets.json").read_text())[: int(count)]
    targets = [Target(f"model-{number}@1", digest) for number, digest in enumerate(digests)]
    measure = {"bare": _bare, "store": _store, "churn": _churn}[mode]
    print(json.dumps(measure(settings, targets)), flush=True)
    process_sandbox().close()
    os._exit(0)  # skips freeing 5,000 models


if __name__ == "__main__":
    main(*sys.argv[1:])
