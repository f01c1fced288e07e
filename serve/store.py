"""Bundles in memory: verified against the route table's digest and the platform's signature before anything is parsed.

Loading happens outside the request path. Bundles that no route names any more stay until the budget is used up.
"""

from __future__ import annotations

import importlib
import logging
from collections import OrderedDict
from collections.abc import Iterable

from lineage.digest import digest_folder
from lineage.errors import PlimsollError, TamperedError
from lineage.settings import Settings
from lineage.signing import verify
from serve.routes import Target
from validators.scoring.bundle import Bundle, load_bundle

log = logging.getLogger(__name__)
_MOST = 500  # bundles; one costs about a MiB


class BundleStore:
    """Bundles by digest, least recently wanted first."""

    def __init__(self, settings: Settings, most: int = _MOST) -> None:
        self._settings, self._most = settings, most
        self._bundles: OrderedDict[str, Bundle] = OrderedDict()
        self.refused: dict[str, str] = {}

    @staticmethod
    def warm() -> None:
        """Import what the first bundle needs, which takes seconds, before traffic comes."""
        for module in ("model_signing.verifying", "xgboost", "validators.scoring.families"):
            importlib.import_module(module)

    def get(self, target: Target | None) -> Bundle | None:
        """The bundle, or None where it is not in memory: never loads."""
        return self._bundles.get(target.digest) if target else None

    def hold(self, targets: Iterable[Target]) -> None:
        """Load what is missing of `targets`. A bundle that is refused is named in `refused`, with the reason."""
        wanted = {target.digest: target for target in targets}
        self.refused = {digest: why for digest, why in self.refused.items() if digest in wanted}
        for digest, target in wanted.items():
            if digest in self._bundles:
                self._bundles.move_to_end(digest)
                continue
            try:
                self._bundles[digest] = load_verified(target, self._settings)
                self.refused.pop(digest, None)
            except PlimsollError as error:
                log.error("bundle of %s is refused: %s", target.release, error.message)
                self.refused[digest] = error.message
        while len(self._bundles) > max(self._most, len(wanted)):
            self._bundles.popitem(last=False)


def load_verified(target: Target, settings: Settings) -> Bundle:
    """Verify digest and signature of a bundle's bytes, then parse them.

    Raises:
        TamperedError: the bytes are not those the ledger approved, or the signature does not hold.
        UnavailableError: a file cannot be read.
    """
    folder = settings.artefacts / target.folder
    found = digest_folder(folder)
    if found != target.digest:
        raise TamperedError(
            f"the bundle of {target.release} has digest {found[:19]}…, but the ledger approved {target.digest[:19]}…",
            field="digest",
        )
    verify(folder, settings)
    return load_bundle(folder)
