"""Routes from the fold, and the fencing rule."""

from __future__ import annotations

from typing import Any

import pytest

from serve.routes import RouteTable, Target, accepts
from tests.support.sample_routes import DIGESTS, table, view


def test_champion_challenger_and_share_come_from_the_fold() -> None:
    route = table().routes["m"]
    assert route.champion == Target("m@1", DIGESTS["m@1"])
    assert route.challenger == Target("m@2", DIGESTS["m@2"])
    assert (route.share, route.salt) == (0.25, "pepper-and-salt")
    assert [target.release for target in route.resident] == ["m@1", "m@2"]


def test_before_a_champion_stands_the_baseline_of_the_challengers_bundle_answers() -> None:
    route = table(champion=None, baseline_from="m@2").routes["m"]
    assert route.champion is None
    assert route.baseline == Target("m@2", DIGESTS["m@2"])


def test_a_model_that_nothing_may_answer_for_has_no_route() -> None:
    assert table(champion=None, challenger=None, baseline_from=None).routes == {}


@pytest.mark.parametrize("changes", [{"share": 0.0}, {"challenger": None}, {"challenger": "m@3"}])
def test_a_challenger_without_share_or_not_in_flight_gets_no_traffic(changes: dict[str, Any]) -> None:
    route = table(**changes).routes["m"]
    assert route.challenger is None
    assert route.share == 0.0


def test_the_previous_champion_is_kept_ready_in_memory() -> None:
    resident = table(champion="m@2", previous="m@1", challenger=None, baseline_from="m@2").routes["m"].resident
    assert [target.release for target in resident] == ["m@2", "m@1"]


@pytest.mark.parametrize(
    ("offered", "taken"), [((2, 1), True), ((1, 6), True), ((1, 5), False), ((1, 4), False), ((0, 99), False)]
)
def test_only_a_later_epoch_or_version_is_taken(offered: tuple[int, int], taken: bool) -> None:
    assert accepts(table(1, 5), table(*offered)) is taken


def test_the_first_table_is_always_taken() -> None:
    assert accepts(None, table(0, 0))


def test_a_table_survives_the_way_between_processes() -> None:
    assert RouteTable.from_dict(table(3, 7).to_dict()) == table(3, 7)
    assert table(3, 7).same_content(table(4, 9))
    assert not table().same_content(table(share=0.5))


def test_a_target_carries_what_the_facts_say_and_keeps_it_on_the_wire() -> None:
    champion = table().routes["m"].champion
    assert champion is not None
    assert champion.statement == view().releases["m@1"].statement.digest
    again = RouteTable.from_dict(table().to_dict()).routes["m"].champion
    assert again is not None
    assert again.statement == champion.statement
