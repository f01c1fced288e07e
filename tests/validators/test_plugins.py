"""Plug-ins of another distribution, installed into a folder on the path of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lineage.errors import UnknownError
from validators.plugins import CHECKS, DRIFT_STATISTICS, SCORING_FAMILIES

STATISTIC = '''
import numpy as np

class Quantiles:
    """The largest difference of the two distribution functions (Kolmogorov-Smirnov)."""
    title, usual_limit, symmetric = "Kolmogorov-Smirnov distance", 0.1, True
    def distance(self, reference, window, *, category):
        at = np.union1d(reference, window)
        below = [np.searchsorted(np.sort(one), at, side="right") / len(one) for one in (reference, window)]
        return float(np.abs(below[0] - below[1]).max())

statistic = Quantiles()
'''
POLICY = """
[validation]
checks = ["group_fairness"]
[monitor.drift]
method = "ks"
"""


def distribution(place: Path, name: str, module: str, entry_points: str) -> None:
    """A distribution as an installer leaves it: a module and its dist-info."""
    (place / f"{name}.py").write_text(module)
    info = place / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


def python(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place), *filter(None, sys.path)])}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_an_entry_point_is_found_conforms_and_may_be_named_by_a_policy(tmp_path: Path) -> None:
    distribution(tmp_path, "acme_drift", STATISTIC, "[plimsoll.drift_statistics]\nks = acme_drift:statistic\n")
    suite = python(tmp_path, "-m", "validators.conformance", "ks")
    assert suite.returncode == 0, suite.stdout + suite.stderr
    assert "ks" in suite.stdout
    assert "conforms" in suite.stdout
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    code = f"""
from pathlib import Path
from validators.policy import load_policy
print(load_policy(Path({str(policy)!r})).monitor.drift.method)
"""
    accepted = python(tmp_path, "-c", code)
    assert accepted.stdout == "ks\n", accepted.stderr
    refused = python(tmp_path / "elsewhere", "-c", code)
    assert "monitor.drift.method" in refused.stderr
    assert "'ks'" in refused.stderr
    assert "installed: jensenshannon, psi, wasserstein" in refused.stderr


def test_a_name_that_a_file_and_an_entry_point_claim_is_refused_and_the_others_work(tmp_path: Path) -> None:
    distribution(tmp_path, "acme_drift", STATISTIC, "[plimsoll.drift_statistics]\npsi = acme_drift:statistic\n")
    code = """
from lineage.errors import InvalidError
from validators.plugins import DRIFT_STATISTICS
print(DRIFT_STATISTICS.names(), DRIFT_STATISTICS.load("wasserstein").title)
try:
    DRIFT_STATISTICS.load("psi")
except InvalidError as error:
    print(error.message)
"""
    shown = python(tmp_path, "-c", code)
    assert "['jensenshannon', 'psi', 'wasserstein'] Wasserstein distance, normed" in shown.stdout, shown.stderr
    assert "drift statistic 'psi' is defined more than once" in shown.stdout
    assert "validators.drift.statistics.psi:statistic" in shown.stdout
    assert "acme_drift:statistic of distribution acme_drift" in shown.stdout
    assert python(tmp_path, "-m", "validators.conformance", "psi").returncode == 1


@pytest.mark.parametrize("target", ["acme_drift:missing", "acme_elsewhere:statistic"])
def test_an_entry_point_that_leads_nowhere_is_an_error_with_its_source(target: str, tmp_path: Path) -> None:
    distribution(tmp_path, "acme_drift", STATISTIC, f"[plimsoll.drift_statistics]\nks = {target}\n")
    suite = python(tmp_path, "-m", "validators.conformance", "ks")
    assert suite.returncode == 1
    assert f"cannot be loaded from {target} of distribution acme_drift" in suite.stdout


def test_a_scoring_family_of_another_distribution_reads_an_artefact(tmp_path: Path) -> None:
    module = "from validators.scoring.families.logistic import parse\n"
    distribution(tmp_path, "acme_lines", module, "[plimsoll.scoring_families]\nlines = acme_lines:parse\n")
    code = """
from validators.scoring.model_artefact import import_families, parse_scorer
import_families()
text = b'{"intercept": 0, "coefficients": [1], "means": [0], "scales": [1]}'
print(parse_scorer("lines", "model.json", text).width)
"""
    assert python(tmp_path, "-c", code).stdout == "1\n"


@pytest.mark.parametrize("point", [CHECKS, DRIFT_STATISTICS, SCORING_FAMILIES], ids=lambda point: point.kind)
def test_an_unknown_name_is_an_error_with_the_closest_name(point: object) -> None:
    assert isinstance(point, type(CHECKS))
    for known in point.names():
        with pytest.raises(UnknownError, match=f"did you mean '{known}'") as caught:
            point.load(known + "z")
        assert caught.value.field == point.field
    with pytest.raises(UnknownError, match="installed: "):
        point.load("q")


def test_an_unknown_name_stops_the_suite(tmp_path: Path) -> None:
    suite = python(tmp_path, "-m", "validators.conformance", "group_fairnes")
    assert suite.returncode == 2
    assert "did you mean 'group_fairness'" in suite.stderr
