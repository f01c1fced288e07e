"""Bundles in memory: verified bytes, proven in the sandbox, then parsed here, as many as the memory budget holds.

Loading happens outside the request path, in a few threads of its own. The baseline of every bundle that a route names
stays in memory, also when its model has to go: it takes a hundredth of the room, and it answers while a model is away.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import structlog

from lineage.errors import PlimsollError, UnavailableError
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
_HELD_AT_ONCE = 2  # of the threads: the others are for requests whose model is not in memory
_REST_SECONDS = 10.0  # what was refused is not looked at again by requests for so long


class BundleStore:
    """Bundles by digest. `get` and `get_baseline` never load; `load` and `get_or_load` do, each bundle once at a time.

    Args:
        sandbox: where bundles are proven; the process's own where None.
        clock: seconds, from any beginning.
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
        # Models are parsed by one thread: the C library gives each thread a heap of its own, and models that come and
        # go in four of them left holes of half their size (measured: 66 MiB above a budget of 100, 2 MiB with one).
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="parser")
        #: digest -> why the bundle is not used. Replaced when it changes, so it can be read at any time.
        self.refused: dict[str, str] = {}

    @staticmethod
    def warm() -> None:
        """Import what the first bundle needs, which takes a while, before traffic comes."""
        import_families()

    @property
    def resident(self) -> int:
        """Models in memory."""
        return len(self._models)

    @property
    def memory_bytes(self) -> int:
        """What models and baselines take, as measured in the sandbox."""
        return self._models.taken + sum(proof.light for _, proof in list(self._baselines.values()))

    @property
    def evictions(self) -> int:
        """Models that had to go since the start."""
        return self._models.evictions

    def get(self, target: Target | None) -> Bundle | None:
        """The bundle, or None where its model is not in memory: never loads."""
        return self._models.get(target.digest) if target else None

    def get_baseline(self, target: Target | None) -> Bundle | None:
        """The bundle for whoever needs its baseline only: its model may be absent. None where it was never loaded."""
        found = self._baselines.get(target.digest) if target else None
        return found[0] if found else None

    def score_spread(self, target: Target | None) -> float:
        """How far the scores of the bundle's golden rows lie apart (`Proof`); 0 where it was never loaded."""
        found = self._baselines.get(target.digest) if target else None
        return found[1].spread if found else 0.0

    def has_missing(self, targets: Iterable[Target]) -> bool:
        """Whether `load` would load any of them."""
        wanted = {target.digest for target in targets}
        return any(digest not in self.refused and self._is_missing(digest, wanted) for digest in wanted)

    def load(self, targets: Iterable[Target]) -> None:
        """Load what is missing of `targets`, the first ones first, and keep it as long as it fits.

        What does not fit beside the others has its baseline loaded, and its model on demand (`get_or_load`). A bundle
        that is refused is named in `refused`, with the reason.
        """
        wanted = {target.digest: target for target in targets}
        self._forget_all_but(wanted)
        missing = [target for digest, target in wanted.items() if self._is_missing(digest, wanted)]
        begun: list[Future[Bundle | None]] = []
        under_way: set[Future[Bundle | None]] = set()
        for target in missing:
            if len(under_way) == _HELD_AT_ONCE:  # one that takes long does not hold up the rest
                under_way = wait(under_way, return_when=FIRST_COMPLETED).not_done
            begun.append(self._begin(target, wanted, begun[-1] if begun else None))
            under_way.add(begun[-1])
        for future in begun:
            future.result()
        self._forget_all_but(wanted)  # what had to go meanwhile

    async def get_or_load(self, target: Target | None) -> Bundle | None:
        """The bundle with its model, loaded if need be; another model goes where there is no room.

        None where the bundle is refused, which is looked at again from time to time.
        """
        if target is None:
            return None
        for _ in range(2):  # the first may have joined a load of `load`, which lets no other model go
            bundle = self.get(target)
            if bundle is not None or self._rests(target.digest):
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

    def _rests(self, digest: str) -> bool:
        return self._clock() - self._refused_at.get(digest, float("-inf")) < _REST_SECONDS

    def _begin(
        self, target: Target, keep: Collection[str], before: Future[Bundle | None] | None = None
    ) -> Future[Bundle | None]:
        """Have the bundle loaded, or join whoever has it loaded already. `before` goes first where room is short."""
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
        """The bundle with its model; None where there is no room for it beside what is to be kept."""
        digest, folder = target.digest, self._settings.artefacts / target.folder
        self._sandbox.start()
        files = verified.read_verified(folder, digest, self._settings)
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
        if before is not None and not self._models.fits_beside(_HELD_AT_ONCE * proof.memory, keep):
            wait((before,))  # the last room goes to the more needed
        if not self._models.reserve(digest, proof.memory, keep):
            return None
        try:
            bundle = self._parser.submit(parse_model, light, files).result()
        except BaseException:
            self._models.release(digest)
            raise
        self._models.fill(digest, bundle)
        self._keep_baseline(digest, light, proof)  # it may have been forgotten meanwhile
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
        """Baselines and refusals of what no route names; models stay until their room is needed."""
        with self._lock:
            self.refused = {digest: why for digest, why in self.refused.items() if digest in wanted}
            self._refused_at = {digest: at for digest, at in self._refused_at.items() if digest in self.refused}
            kept = {one: known for one, known in self._baselines.items() if one in wanted or one in self._models}
            self._baselines = kept
