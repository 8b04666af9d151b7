"""A client that goes on after errors, as BITS does."""

from dataclasses import dataclass

from wire_client import Answer, Line, cancel, close, create, fetch, fragment

PART = 3000

#: What is uploaded, in three fragments.
ENTITY = bytes(n % 251 for n in range(3 * PART - 1000))

#: A client that needs more packets than this does not get on.
PATIENT = 10


@dataclass
class Upload:
    """A client, and what it knows of its upload."""

    line: Line
    target: str
    named: str = ""
    acknowledged: int = 0

    @property
    def complete(self) -> bool:
        return self.acknowledged == len(ENTITY)

    async def send(self, verb: str) -> Answer:
        """Send a packet, and believe what its Ack says."""
        answer = await self.line.ask(self._octets(verb))
        if verb == "create" and answer.status == 200:
            self.named = answer.get("BITS-Session-Id") or ""
        if answer.received is not None:
            self.acknowledged = answer.received
        return answer

    def _octets(self, verb: str) -> bytes:
        match verb:
            case "create":
                return create(self.target)
            case "close":
                return close(self.target, self.named)
            case "cancel":
                return cancel(self.target, self.named)
            case "fetch":
                return fetch(self.target)
            case "reply":
                folder = self.target.rpartition("/")[0]
                return fetch(f"{folder}/BITS-Replies/{self.named}")
        first = {"repeat": 0, "gap": self.acknowledged + 1}
        return self._fragment(first.get(verb, self.acknowledged))

    def _fragment(self, first: int) -> bytes:
        body = ENTITY[first : first + PART]
        return fragment(self.target, self.named, first, body, len(ENTITY))

    async def go_on(self) -> None:
        """Come to the end, as a client does once it is answered."""
        if not self.named:
            assert (await self.send("create")).status == 200
        for _ in range(PATIENT):
            if self.complete:
                break
            answer = await self.send("fragment")
            assert answer.status in (200, 416), answer
        answer = await self.send("close")
        assert answer.status == 200, answer
