"""The fault runs of `make bench`, shortened and with other seeds: no failure is counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import false_alarms, mutations, power_loss, rewinds

ROOT = Path(__file__).parents[3]


def test_power_may_be_lost_at_any_moment() -> None:
    told = list(power_loss.run(400, seed=11))
    assert told[1].startswith("lost, doubled, reordered or called tampering: 0 "), told


def test_the_ledger_may_be_killed_at_any_moment() -> None:
    # It forks, which only a process with one thread may do.
    run = "from benchmarks.faults import kills; print(*kills.run(30, seed=11), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, timeout=120)
    told = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert told[2].startswith("lost, doubled or reordered: 0 "), told


def test_both_verifiers_find_and_name_the_same() -> None:
    told = list(mutations.run(600, seed=11))
    assert len(told) == 4, told
    for line in told[1:3]:
        assert "in 100.0000%" in line, told


def test_a_log_that_nobody_touched_raises_no_alarm() -> None:
    told = list(false_alarms.run(240, seed=11))
    assert told[1].startswith("false alarms: 0 "), told
    assert told[1].endswith("only read: 0"), told


@pytest.mark.timeout(120)
def test_the_witness_tells_of_rewound_logs() -> None:
    told = list(rewinds.run(25, seed=11))
    assert told[1].startswith("detected: 25 of 25 "), told
    assert told[1].endswith("untouched log: 0 of 50"), told
