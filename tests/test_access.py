"""The lists of those who may read and write."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsd.access import allowed, same

GROUPS = {"imaging": ("alice", "Bob"), "empty": ()}


@pytest.mark.parametrize(
    ("entries", "user", "admitted"),
    [
        (["*"], None, True),
        (["*"], "alice", True),
        (["*", "bob"], None, True),
        ([], None, False),
        ([], "alice", False),
        (["@users"], None, False),
        (["@users"], "anyone", True),
        (["alice"], "alice", True),
        (["alice"], "ALICE", True),
        (["Alice"], "alice", True),
        (["alice"], "bob", False),
        (["alice"], None, False),
        (["@imaging"], "bob", True),
        (["@imaging"], "carol", False),
        (["@imaging", "carol"], "carol", True),
        (["@empty"], "alice", False),
        (["@missing"], "missing", False),
        (["@imaging"], "imaging", False),
        (["@imaging"], "@imaging", False),
        (["straße"], "strasse", False),
        (["kate"], "\N{KELVIN SIGN}ate", False),
        (["\N{KELVIN SIGN}ate"], "kate", False),
        (["\N{KELVIN SIGN}ATE"], "\N{KELVIN SIGN}ate", True),
    ],
)
def test_a_list_admits(entries, user, admitted):
    assert allowed(entries, GROUPS).admits(user) is admitted


@pytest.mark.parametrize(
    ("entries", "nobody"),
    [([], True), (["@empty"], True), (["alice"], False), (["@users"], False)],
)
def test_where_nobody_may_signing_in_does_not_help(entries, nobody):
    assert allowed(entries, GROUPS).nobody is nobody


@given(st.lists(st.text(min_size=1)), st.text(min_size=1))
def test_nobody_is_admitted_who_is_not_in_the_list(entries, user):
    whole = allowed(entries, {})

    if whole.admits(user) and not whole.everyone and not whole.any_user:
        assert same(user) in {same(entry) for entry in entries}


def test_no_other_letter_is_one_of_ascii():
    others = map(chr, range(128, sys.maxunicode + 1))

    assert [letter for letter in others if same(letter).isascii()] == []


@given(st.text())
def test_spelling_of_a_spelling_is_the_same(name):
    assert same(same(name)) == same(name)
