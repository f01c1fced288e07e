"""Names of accounts: one form, no other scripts, no look-alikes."""

from __future__ import annotations

import pytest

from lineage.errors import InvalidError, RefusedError
from lineage.rules.account_names import account_name, check_unused

KNOWN = ["validator", "r.okafor", "anna.smith", "controller"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Validator", "validator"),
        ("R.Okafor", "r.okafor"),
        ("ｖａｌｉｄａｔｏｒ", "validator"),  # full-width letters
        ("ﬁona", "fiona"),  # a ligature
        ("a", "a"),
        ("m.o-brien_2@bank.example", "m.o-brien_2@bank.example"),
    ],
)
def test_a_name_is_kept_in_one_form(given: str, name: str) -> None:
    assert account_name(given) == name


@pytest.mark.parametrize(
    "given",
    [
        "",
        " ",
        "validator ",
        " validator",
        "vali dator",
        "validator\n",
        "validator\u00a0",
        "vаlidator",  # a Cyrillic а
        "vali\u200bdator",  # a zero-width space
        "valida\u0301tor",  # a combining accent
        "müller",
        ".validator",
        "validator.",
        "-x",
        "x" * 101,
        "../etc",
        "a/b",
        'a"b',
        "a\x00b",
        "ρoot",
    ],
)
def test_other_characters_are_refused(given: str) -> None:
    with pytest.raises(InvalidError) as caught:
        account_name(given)
    assert caught.value.field == "name"


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("validator", "validator"),
        ("va1idator", "validator"),
        ("vaiidator", "validator"),
        ("valldator", "validator"),
        ("validat0r", "validator"),
        ("vali.dator", "validator"),
        ("v-a-l-i-d-a-t-o-r", "validator"),
        ("rokafor", "r.okafor"),
        ("r_okafor", "r.okafor"),
        ("anna.srnith", "anna.smith"),
        ("contro11er", "controller"),
        ("1edger", "ledger"),
        ("p1atform", "platform"),
        ("pl1msoll", "plimsoll"),
        ("base-line", "baseline"),
    ],
)
def test_a_look_alike_is_refused_with_what_it_is_like(name: str, like: str) -> None:
    with pytest.raises(RefusedError, match=repr(like)) as caught:
        check_unused(account_name(name), KNOWN)
    assert caught.value.code == "name"


@pytest.mark.parametrize("name", ["validator2", "second-validator", "b.okafor", "anna.smythe", "root"])
def test_another_name_is_free(name: str) -> None:
    check_unused(account_name(name), KNOWN)
