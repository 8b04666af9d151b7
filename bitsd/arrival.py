"""How a Ping arrived, for a client that asks what became of it on the way.

The answer has nothing in it that the client did not send, but for a mark by which it
sees whether two requests came on one connection (protocol-notes/ping.md).
"""

from dataclasses import dataclass

#: The request field that asks, and the field of the Ack that answers.
FIELD = "Bitsd-Arrival"

_WORDS = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as the server saw it.

    Attributes:
        version: of HTTP, as `1.1`.
        kept: the connection lives on after the answer.
        connection: a word of its own for each connection to the server.
        ranged: a Range field came with it.
    """

    version: str
    kept: bool
    connection: str
    ranged: bool

    def __str__(self) -> str:
        kept = "keep" if self.kept else "close"
        ranged = "range" if self.ranged else "no-range"
        return f"{self.version} {kept} {self.connection} {ranged}"

    @classmethod
    def parse(cls, value: str) -> "Arrival | None":
        """What `str` made; None of anything else."""
        words = value.split()
        if len(words) != _WORDS:
            return None
        return cls(words[0], words[1] == "keep", words[2], words[3] == "range")
