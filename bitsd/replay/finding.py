"""What is said of somebody who did not keep to the rules."""

from typing import NamedTuple

from .streams import Side


class Finding(NamedTuple):
    """A rule that was broken.

    Attributes:
        side: who broke it.
        sentence: what was done.
        section: where the rule stands.
        exchange: number of the exchange.
    """

    side: Side
    sentence: str
    section: str
    exchange: int = 0


def client(sentence: str, section: str) -> Finding:
    """A client broke a rule."""
    return Finding(Side.CLIENT, sentence, section)


def server(sentence: str, section: str) -> Finding:
    """A server broke a rule."""
    return Finding(Side.SERVER, sentence, section)
