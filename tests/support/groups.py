"""Which tests are slow: by folder and file, so that nothing need be imported."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
#: Folders and files that `make test-fast` leaves out: they start processes, a browser, HAProxy, Feast or a ledger
#: service for each test, train models, or look at thousands of cases.
SLOW = (
    "acceptance",
    "benchmarks",
    "console/terminal/test_features.py",
    "console/terminal/test_up.py",
    "console/test_browser.py",
    "console/test_browser_late.py",
    "console/test_offers.py",
    "console/test_live_updates.py",
    "console/test_restart.py",
    "console/test_server.py",
    "earlier",
    "lineage/backup",
    "lineage/examiner",
    "lineage/history/test_as_of.py",
    "lineage/history/test_dossier.py",
    "lineage/openlineage/test_feast.py",
    "lineage/openlineage/test_outbox.py",
    "lineage/openlineage/test_receiver.py",
    "lineage/privacy/test_erasure.py",
    "lineage/rules/test_available.py",
    "lineage/service/test_follow.py",
    "lineage/service/test_openapi_fuzz.py",
    "lineage/service/test_safety.py",
    "lineage/store",
    "lineage/witness",
    "meta/test_packaging.py",
    "serve/cluster/test_haproxy_config.py",
    "serve/cluster/test_standby.py",
    "serve/decision/test_feature_client.py",
    "serve/gateway/test_bad_http.py",
    "serve/gateway/test_clients.py",
    "serve/gateway/test_openapi_fuzz.py",
    "serve/gateway/test_versions.py",
    "serve/models",
    "serve/record/test_spool.py",
    "stories",
    "training/test_conformance.py",
    "training/test_how_to.py",
    "training/test_materialize.py",
    "training/test_pipeline.py",
    "validators/test_drift.py",
    "validators/test_plugins.py",
    "validators/test_replay.py",
)


def is_slow(path: Path) -> bool:
    """Whether SLOW names this file or a folder that it is in."""
    return any(TESTS / name in (path, *path.parents) for name in SLOW)
