"""Store of bundles in memory: bytes are verified, proven in the sandbox, then parsed, within the memory budget.

Loading happens in threads, outside the request path. The baseline of every bundle that a route names stays in memory
even if its model is evicted: it takes a hundredth of the memory, and it answers while the model is not loaded.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import structlog

from lineage.bundle_facts import SPEC_FILE, parse_statement
from lineage.errors import PlimsollError, TamperedError, UnavailableError
from lineage.settings import Settings
from serve.models.memory_budget import ModelMemory
from serve.models.sandbox_client import Proof, Sandbox, process_sandbox
from serve.routes import Target
from validators.scoring import verified_read as verified
from validators.scoring.bundle import Bundle, parse_baseline, parse_model
from validators.scoring.model_artefact import import_families

log = structlog.get_logger("plimsoll.bundles")
_MIB = 1024 * 1024
_THREADS = 4
_PRELOADS_AT_ONCE = 2  # of the threads: the others are for requests whose model is not in memory
_RETRY_SECONDS = 10.0  # a request does not load a refused bundle again before this time


def _check_statement(target: Target, files: Mapping[str, bytes]) -> None:
    """Refuse a bundle of another model than its release, or one that says other things than the facts.

    Raises:
        TamperedError: what it says.
    """
    said = parse_statement(target.folder, files.get(SPEC_FILE, b""))
    model = target.release.rpartition("@")[0]
    if model and said.model != model:
        raise TamperedError(f"the bundle of {target.release} says that it is of model {said.model!r}", field="model")
    if target.statement and said.digest != target.statement:
        raise TamperedError(
            f"the bundle of {target.release} says other things than its facts about family, threshold, policy or "
            "features; `plimsoll audit verify` names the value",
            field="statement",
        )


class BundleStore:
    """Bundles by digest. `get` and `get_baseline` never load; `load` and `get_or_load` do, each bundle once at a time.

    Args:
        sandbox: process where bundles are proven; this process's own where None.
        clock: monotonic seconds.
    """

    def __init__(
        self, settings: Settings, sandbox: Sandbox | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._sandbox, self._clock = settings, sandbox or process_sandbox(), clock
        self._models = ModelMemory(settings.model_memory_mib * _MIB)
        self._baselines: dict[str, tuple[Bundle, Proof]] = {}
        self._loading: dict[str, Future[Bundle | None]] = {}
        self._refused_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bundles")
        # Models are parsed by one thread: the C library gives each thread its own heap, and evictions in four
        # heaps left fragmentation (measured: 66 MiB above a budget of 100, 2 MiB with one thread).
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="parser")
        #: digest -> why the bundle is refused. Replaced as a whole, so it can be read without the lock.
        self.refused: dict[str, str] = {}

    @staticmethod
    def warm() -> None:
        """Import what the first bundle needs, which takes a while, before traffic comes."""
        import_families()

    @property
    def resident(self) -> int:
        """Number of models in memory."""
        return len(self._models)

    @property
    def memory_bytes(self) -> int:
        """Memory of models and baselines in bytes, as measured in the sandbox."""
        return self._models.taken + sum(proof.light for _, proof in list(self._baselines.values()))

    @property
    def evictions(self) -> int:
        """Number of models evicted since the start."""
        return self._models.evictions

    def get(self, target: Target | None) -> Bundle | None:
        """The bundle, or None where its model is not in memory. Never loads."""
        return self._models.get(target.digest) if target else None

    def get_baseline(self, target: Target | None) -> Bundle | None:
        """The bundle for its baseline and spec; its model may be absent. None where it was never loaded."""
        found = self._baselines.get(target.digest) if target else None
        return found[0] if found else None

    def score_spread(self, target: Target | None) -> float:
        """Score spread of the bundle's golden rows (`Proof.spread`); 0 where it was never loaded."""
        found = self._baselines.get(target.digest) if target else None
        return found[1].spread if found else 0.0

    def has_missing(self, targets: Iterable[Target]) -> bool:
        """Whether `load` would load any of these bundles."""
        wanted = {target.digest for target in targets}
        return any(digest not in self.refused and self._is_missing(digest, wanted) for digest in wanted)

    def load(self, targets: Iterable[Target]) -> None:
        """Load the missing bundles of `targets`, in order, as many as fit.

        What does not fit beside the others has its baseline loaded, and its model on demand (`get_or_load`). A bundle
        that is refused is named in `refused`, with the reason.
        """
        wanted = {target.digest: target for target in targets}
        self._forget_all_but(wanted)
        missing = [target for digest, target in wanted.items() if self._is_missing(digest, wanted)]
        begun: list[Future[Bundle | None]] = []
        under_way: set[Future[Bundle | None]] = set()
        for target in missing:
            if len(under_way) == _PRELOADS_AT_ONCE:  # a slow one does not delay the rest
                under_way = wait(under_way, return_when=FIRST_COMPLETED).not_done
            begun.append(self._begin(target, wanted, begun[-1] if begun else None))
            under_way.add(begun[-1])
        for future in begun:
            future.result()
        self._forget_all_but(wanted)  # again, because models may have been evicted meanwhile

    async def get_or_load(self, target: Target | None) -> Bundle | None:
        """The bundle with its model, loaded if needed; other models may be evicted for it.

        None where the bundle is refused; loading is tried again every `_RETRY_SECONDS`.
        """
        if target is None:
            return None
        for _ in range(2):  # the first may have joined a load that evicts no model
            bundle = self.get(target)
            if bundle is not None or self._was_refused_recently(target.digest):
                return bundle
            bundle = await asyncio.shield(asyncio.wrap_future(self._begin(target, ())))
            if bundle is not None:
                return bundle
        return None

    def _is_missing(self, digest: str, wanted: Collection[str]) -> bool:
        if digest in self._models:
            return False
        known = self._baselines.get(digest)
        return known is None or self._models.fits_beside(known[1].memory, wanted)

    def _was_refused_recently(self, digest: str) -> bool:
        return self._clock() - self._refused_at.get(digest, float("-inf")) < _RETRY_SECONDS

    def _begin(
        self, target: Target, keep: Collection[str], before: Future[Bundle | None] | None = None
    ) -> Future[Bundle | None]:
        """Start loading the bundle, or join the load in progress. Where memory is short `before` is loaded first."""
        with self._lock:
            future = self._loading.get(target.digest)
            if future is None:
                future = self._loading[target.digest] = self._threads.submit(self._load, target, keep, before)
            return future

    def _load(self, target: Target, keep: Collection[str], before: Future[Bundle | None] | None) -> Bundle | None:
        digest = target.digest
        try:
            bundle = self._models.get(digest) or self._load_verified(target, keep, before)
            self._note(digest, None)
            return bundle
        except PlimsollError as error:
            log.error("bundle refused", release=target.release, message=error.message)
            self._note(digest, error.message)
            return None
        finally:
            with self._lock:
                del self._loading[digest]

    def _load_verified(
        self, target: Target, keep: Collection[str], before: Future[Bundle | None] | None
    ) -> Bundle | None:
        """The bundle with its model; None where it does not fit beside the models to keep."""
        digest, folder = target.digest, self._settings.artefacts / target.folder
        self._sandbox.start()
        files = verified.read_verified(folder, digest, self._settings)
        _check_statement(target, files)
        proof = self._sandbox.prove(digest, folder, files)
        known = self._baselines.get(digest)
        light = known[0] if known else parse_baseline(folder, files)
        self._keep_baseline(digest, light, proof)
        if proof.memory > self._models.budget:
            raise UnavailableError(
                f"its model takes {proof.memory / _MIB:.0f} MiB, all models together may take "
                f"{self._models.budget / _MIB:.0f}; raise PLIMSOLL_MODEL_MEMORY_MIB",
                field="model_memory_mib",
            )
        if before is not None and not self._models.fits_beside(_PRELOADS_AT_ONCE * proof.memory, keep):
            wait((before,))  # the last memory goes to the bundle of higher priority
        if not self._models.reserve(digest, proof.memory, keep):
            return None
        try:
            bundle = self._parser.submit(parse_model, light, files).result()
        except BaseException:
            self._models.release(digest)
            raise
        self._models.fill(digest, bundle)
        self._keep_baseline(digest, light, proof)  # it may have been dropped meanwhile
        return bundle

    def _keep_baseline(self, digest: str, light: Bundle, proof: Proof) -> None:
        with self._lock:
            self._baselines[digest] = (light, proof)

    def _note(self, digest: str, refused: str | None) -> None:
        with self._lock:
            others = {one: why for one, why in self.refused.items() if one != digest}
            self.refused = others if refused is None else others | {digest: refused}
            if refused is not None:
                self._refused_at[digest] = self._clock()

    def _forget_all_but(self, wanted: Collection[str]) -> None:
        """Drop baselines and refusals of bundles that no route names; models stay until their memory is needed."""
        with self._lock:
            self.refused = {digest: why for digest, why in self.refused.items() if digest in wanted}
            self._refused_at = {digest: at for digest, at in self._refused_at.items() if digest in self.refused}
            kept = {one: known for one, known in self._baselines.items() if one in wanted or one in self._models}
            self._baselines = kept
