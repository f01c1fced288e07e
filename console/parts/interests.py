"""Kinds of facts by what a page shows of them."""

from __future__ import annotations

from lineage.facts.registry import FACTS, subject_of

#: Facts of every few seconds; they would push what people did out of a list.
FREQUENT = frozenset({"DecisionsSealed", "RouteApplied", "SignedIn", "DriftMeasured", "FairnessMeasured"})
#: Facts that move a release.
OF_RELEASES = frozenset(kind for kind in FACTS if subject_of(kind) == "release")
#: Facts that stop something or let it go.
OF_STOPS = frozenset(kind for kind in FACTS if subject_of(kind) == "one_or_all") | {"BreakerOpened", "BreakerClosed"}
#: Whether control facts are witnessed.
OF_WITNESS = frozenset({"WitnessAway", "WitnessBack"})
#: What may close an alert.
MEASURED = frozenset({"DriftMeasured", "FairnessMeasured"})
OF_ALERTS = frozenset({"AlertRaised", "AlertClosed", "EnvironmentReproduced"}) | MEASURED
OF_JOBS = frozenset({"RetrainRequested", "JobStarted", "JobFinished"})
#: What makes another release answer.
OF_CHAMPIONS = frozenset({"ReleasePromoted", "RollbackOrdered", "ReleaseRolledBack", "ChampionReinstated"})
#: What a list of latest records shows.
SELDOM = frozenset(FACTS) - FREQUENT
