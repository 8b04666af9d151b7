"""Whatever octets come, only what is promised happens; `make fuzz` tries for longer."""

from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = Path(__file__).parent / "seeds"
LETTERS = st.text('0123456789-+,=/*: \tabefx"\n%.{}[]\u0665\udcff', max_size=40)


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((SEEDS / name).iterdir())]


@st.composite
def mutated(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """A seed with some of its octets replaced."""
    seed = draw(st.sampled_from(whole))
    for _ in range(draw(st.integers(0, 3))):
        first = draw(st.integers(0, len(seed)))
        last = draw(st.integers(first, min(len(seed), first + 10)))
        new = draw(st.binary(max_size=6) | LETTERS.map(octets))
        seed = seed[:first] + new + seed[last:]
    return seed


def octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("name", TARGETS)
def test_octets_of_others_do_what_is_promised(name: str):
    @settings(max_examples=400, deadline=None)
    @given(data=st.binary(max_size=200) | mutated(seeds(name)))
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_do_what_is_promised(name: str):
    for seed in seeds(name):
        TARGETS[name](seed)


def test_every_target_has_seeds():
    assert {path.name for path in SEEDS.iterdir()} == set(TARGETS)
