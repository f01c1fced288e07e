"""Group commit: every caller is answered, in order of arrival, and many share one flush."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from lineage.log.group_commit import GroupCommit, Slot


class Desk:
    """Commits what is asked; `hold` keeps the first group until others have come."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.hold = threading.Event()
        self.entered = threading.Event()
        self.shared: GroupCommit[int, int] = GroupCommit(self.commit)
        self.busy = threading.Lock()

    def commit(self, group: Sequence[Slot[int, int]]) -> None:
        assert self.busy.acquire(blocking=False), "two groups at once"
        try:
            self.groups.append([slot.request for slot in group])
            self.entered.set()
            if len(self.groups) == 1:
                assert self.hold.wait(20)
            for slot in group:
                if slot.request < 0:
                    slot.error = ValueError(str(slot.request))
                else:
                    slot.result = slot.request * 10
            if 13 in self.groups[-1]:
                raise OSError("the disk is gone")
        finally:
            self.busy.release()


def ask_all(desk: Desk, asked: Sequence[int]) -> dict[int, object]:
    answers: dict[int, object] = {}

    def submit(number: int) -> None:
        try:
            answers[number] = desk.shared.submit(number)
        except (ValueError, OSError) as error:
            answers[number] = error

    first = threading.Thread(target=submit, args=(asked[0],))
    first.start()
    assert desk.entered.wait(20)
    rest = [threading.Thread(target=submit, args=(number,)) for number in asked[1:]]
    for thread in rest:
        thread.start()
    while len(desk.shared._waiting) < len(rest):
        threading.Event().wait(0.001)
    desk.hold.set()
    for thread in (first, *rest):
        thread.join(20)
        assert not thread.is_alive()
    return answers


def test_those_who_come_while_one_is_committed_share_the_next() -> None:
    desk = Desk()
    answers = ask_all(desk, range(1, 12))
    assert answers == {number: number * 10 for number in range(1, 12)}
    assert [len(group) for group in desk.groups] == [1, 10]


def test_one_bad_wish_spoils_no_other() -> None:
    desk = Desk()
    answers = ask_all(desk, [1, -2, 3])
    assert (answers[1], answers[3]) == (10, 30)
    assert isinstance(answers[-2], ValueError)


def test_a_group_that_fails_fails_for_all_of_it_and_the_next_one_goes_on() -> None:
    desk = Desk()
    answers = ask_all(desk, [1, 13, 4])
    assert answers[1] == 10
    assert isinstance(answers[13], OSError)
    assert isinstance(answers[4], OSError)
    assert desk.shared.submit(5) == 50


@pytest.mark.parametrize("writers", [2, 16])
def test_nobody_is_forgotten_and_each_keeps_its_order(writers: int) -> None:
    desk = Desk()
    desk.hold.set()
    each = 200

    def write(writer: int) -> None:
        for count in range(each):
            number = writer * each + count + 1000
            assert desk.shared.submit(number) == number * 10

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    told = [number for group in desk.groups for number in group]
    assert sorted(told) == list(range(1000, 1000 + writers * each))
    for writer in range(writers):
        own = [number for number in told if (number - 1000) // each == writer]
        assert own == sorted(own)
