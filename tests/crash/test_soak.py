"""A few seconds of `make soak`, and that it would notice what grows."""

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

from .soak import MORE_MEMORY, MOST_THREADS, Footprint, Plan, Soak

FOOTPRINT = Footprint(
    processes=1, descriptors=7, threads=7, memory=40_000_000, sessions=0, graves=3
)

#: The most that each may have become.
LIMITS = {
    "processes": 1,
    "descriptors": 7,
    "threads": max(7, MOST_THREADS),
    "memory": 40_000_000 + MORE_MEMORY,
    "sessions": 0,
}


@pytest.mark.parametrize("workers", [1, 2])
async def test_server_has_afterwards_what_it_had_before(tmp_path: Path, workers: int):
    outcome = await Soak(Plan(seconds=1.5, workers=workers), tmp_path).run()

    assert outcome.after.grown(outcome.before) == []
    assert outcome.visits.total() > 0


def test_what_is_at_its_limit_has_not_grown():
    assert replace(FOOTPRINT, **LIMITS).grown(FOOTPRINT) == []


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_over_its_limit_has_grown(name: str):
    over = replace(FOOTPRINT, **{name: LIMITS[name] + 1})

    assert over.grown(FOOTPRINT) == [name]


def test_only_graves_may_become_more():
    names = {field.name for field in fields(Footprint)}

    assert names - LIMITS.keys() == {"graves"}


def test_footprint_is_seen_from_outside(tmp_path: Path):
    (tmp_path / "{A}").mkdir()
    (tmp_path / "closed-{B}").touch()
    before = Footprint.of(os.getpid(), tmp_path)
    with (tmp_path / "closed-{B}").open("rb"):
        after = Footprint.of(os.getpid(), tmp_path)

    assert (before.sessions, before.graves) == (1, 1)
    assert after.descriptors == before.descriptors + 1
