"""Downloads as jobs make them: parts of a file, and what tells that it is the same."""

from collections.abc import Awaitable, Callable

from . import judge
from .hops import Hop, author, in_front
from .line import Answer, Broken, why
from .patient import Patient
from .report import Findings
from .verdicts import Symptom

#: Ranges in one request, as jobs for changed parts have them.
RANGES = 20

#: Too small a file has no parts.
SMALLEST = 64

_FAILURES = (Broken, OSError)


class Downloads:
    """What becomes of requests for a file on their way.

    Args:
        patient: with the file as its target.
        findings: take what is found.
    """

    def __init__(self, patient: Patient, findings: Findings) -> None:
        self._patient = patient
        self._findings = findings

    async def examine(self) -> None:
        """Ask for the file, and for parts of it."""
        try:
            await self._examine()
        except _FAILURES as error:
            self._findings.fault("download", Symptom.NO_ANSWER, why(error))

    async def _examine(self) -> None:
        head = await self._ask("HEAD")
        symptom = judge.of_whole(head, head.length or 0)
        if symptom is not None:
            self._fault("file", symptom, head)
            return
        size = head.length or 0
        self._findings.ok("file", f"{size} bytes")
        if size < SMALLEST:
            self._findings.skip("ranges", f"the file has less than {SMALLEST} bytes")
            return
        probes: tuple[tuple[str, Callable[[int, Answer], Awaitable[Found]]], ...] = (
            ("range", self._single),
            ("suffix", self._suffix),
            (f"{RANGES} ranges", self._several),
            ("if-range", self._same),
            ("replaced", self._replaced),
        )
        for name, probe in probes:
            answer, symptom = await probe(size, head)
            if symptom is not None:
                self._fault(name, symptom, answer)
                return
            self._findings.ok(name, f"{answer.status}, as asked for")

    async def _ask(
        self, method: str, *fields: tuple[str, str], most: int = 1 << 16
    ) -> Answer:
        async with self._patient.dial() as line:
            return await self._patient.fetch(line, method, *fields, most=most)

    async def _single(self, size: int, _head: Answer) -> "Found":
        answer = await self._ask("GET", ("Range", "bytes=1-10"))
        return answer, judge.of_range(answer, (1, 10), size)

    async def _suffix(self, size: int, _head: Answer) -> "Found":
        answer = await self._ask("GET", ("Range", "bytes=-5"))
        return answer, judge.of_range(answer, (size - 5, size - 1), size)

    async def _several(self, size: int, _head: Answer) -> "Found":
        spans = [(first, first) for first in range(0, 3 * RANGES, 3)]
        asked = ",".join(f"{first}-{last}" for first, last in spans)
        answer = await self._ask("GET", ("Range", f"bytes={asked}"))
        return answer, judge.of_ranges(answer, spans, size)

    async def _same(self, size: int, head: Answer) -> "Found":
        tag = head.get("ETag") or ""
        # A weak one is no proof that bytes are the same (RFC 9110 13.1.5).
        validator = tag if tag.startswith('"') else head.get("Last-Modified") or ""
        asked = (("Range", "bytes=1-10"), ("If-Range", validator))
        answer = await self._ask("GET", *asked)
        return answer, judge.of_range(answer, (1, 10), size)

    async def _replaced(self, size: int, _head: Answer) -> "Found":
        asked = (("Range", "bytes=1-10"), ("If-Range", '"bitsd-doctor"'))
        answer = await self._ask("GET", *asked, most=0)
        return answer, judge.of_whole(answer, size)

    def _fault(self, probe: str, symptom: Symptom, answer: Answer) -> None:
        earlier = {fault.symptom for fault in self._findings.faults}
        if symptom is Symptom.NO_FILE and earlier:
            self._findings.skip(probe, f"{answer.status} from {author(answer).value}")
            return
        if symptom is Symptom.NO_RANGES and Symptom.RANGE_LOST in earlier:
            symptom = Symptom.RANGE_LOST
        front = in_front(self._patient.answers)
        written = author(answer)
        hop = front if written in (Hop.SERVER, Hop.UNKNOWN) else written
        detail = f"{answer.status} from {written.value}"
        self._findings.fault(probe, symptom, detail, hop=hop, status=answer.status)


Found = tuple[Answer, Symptom | None]
