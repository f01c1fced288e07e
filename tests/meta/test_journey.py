"""The table of the journey: tree, facts, tests and README agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lineage.facts.registry import FACTS
from lineage.lifecycle import JOURNEY, TRANSITIONS, Verb
from lineage.rules.eras import RULES
from lineage.rules.roles import PEOPLE_MAY

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
#: What happens beside the journey: jobs, what stops a model whatever its releases do, copies that answer nobody.
BESIDE = {"JobStarted", "JobFinished", "BreakerOpened", "BreakerClosed", "ShadowStarted", "ShadowStopped"}
BESIDE |= {
    "AlertClosed",
    "EnvironmentReproduced",
    "RulesActivated",
    "KillSwitchPulled",
    "KillReleaseRequested",
    "KillSwitchReleased",
    "KeyRotated",
    "KeyRevoked",
    "WitnessAway",
    "WitnessBack",
    *(kind for kind in FACTS if FACTS[kind].__module__ == "lineage.facts.accounts"),
}
each_verb = pytest.mark.parametrize("verb", JOURNEY, ids=lambda verb: verb.name)


@each_verb
def test_a_verb_is_a_file_that_says_so(verb: Verb) -> None:
    text = (ROOT / verb.file).read_text()
    first = text.removeprefix('"""').splitlines()[0]
    assert text.startswith('"""')
    assert verb.name in first.lower(), f"the first line of {verb.file} is {first!r}"


@each_verb
def test_a_verb_records_facts_that_exist(verb: Verb) -> None:
    assert verb.facts
    assert set(verb.facts) <= FACTS.keys()


@each_verb
def test_a_verb_has_its_story(verb: Verb) -> None:
    assert (ROOT / "tests" / "stories" / f"test_{verb.name}.py").is_file()


@each_verb
def test_a_verb_has_its_row_in_the_readme(verb: Verb) -> None:
    rows = [line for line in README.read_text().splitlines() if line.startswith("|")]
    assert [row for row in rows if re.search(rf"\b{verb.name}\b", row) and verb.file in row]


def test_no_fact_belongs_to_two_verbs_and_none_about_releases_to_nobody() -> None:
    told = [fact for verb in JOURNEY for fact in verb.facts]
    assert len(told) == len(set(told))
    assert {kind for _, kind in TRANSITIONS} | RULES.keys() | PEOPLE_MAY.keys() <= set(told) | BESIDE


def test_the_fact_of_each_verb_is_stated_by_its_folder() -> None:
    """Each kind is named somewhere in the code that states facts, the ledger's own kinds in lineage/."""
    folders = ("lineage", "validators", "training", "serve", "console")
    text = "".join(path.read_text() for name in folders for path in (ROOT / name).rglob("*.py") if path.stem != "facts")
    missing = [kind for kind in FACTS if f'"{kind}"' not in text]
    assert missing == []
