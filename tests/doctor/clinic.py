"""A BITS server that can be told what is wrong with it, and what the doctor finds."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from scripted import Asked, ack, answer
from yarl import URL

from bitsd.client.options import Options
from bitsd.doctor.command import examine
from bitsd.doctor.report import Findings
from bitsd.doctor.verdicts import Symptom

SIZE = (1 << 20) + 2
OPTIONS = Options(timeout_seconds=10.0)
ID = "{11111111-2222-4333-8444-555555555555}"
PROTOCOL = ("BITS-Protocol", "{7df0354d-249b-430f-820d-3d2a9bef4931}")

Says = Callable[[Asked], bytes | None]


@dataclass
class Bits:
    """A script for `scripted`: a small BITS server, but for some packets.

    Attributes:
        says: what is answered in place of what is right, by packet or method.
        keeps: bytes of a fragment that broke off; a script sees whole ones only.
        held: bytes of the session.
        gone: sessions that were cancelled.
    """

    says: dict[str, Says] = field(default_factory=dict)
    keeps: int = 1
    held: int = 0
    gone: int = 0

    def __call__(self, asked: Asked) -> bytes | None:
        kind = asked.packet or asked.method
        said = self.says.get(kind)
        if said is not None:
            return said(asked)
        return self.right(asked, kind)

    def right(self, asked: Asked, kind: str) -> bytes:
        match kind:
            case "Ping":
                return ack()
            case "Create-Session":
                self.held = 0
                return ack(200, ("BITS-Session-Id", ID), PROTOCOL)
            case "Fragment":
                return self.fragment(asked)
            case "Cancel-Session":
                self.gone += 1
                return ack()
            case "Close-Session":
                return ack(500, ("BITS-Error", "0x8020001F"))
            case _:
                return answer(404)

    def fragment(self, asked: Asked) -> bytes:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/\d+", asked.span or "")
        assert match is not None
        first, last = int(match[1]), int(match[2])
        status = 416 if first > self.held else 200
        self.held = last + 1 if status == 200 else max(self.held, self.keeps)
        return ack(status, ("BITS-Received-Content-Range", str(self.held)))


def always(octets: bytes | None) -> Says:
    """The same answer, whatever was asked."""
    return lambda _asked: octets


async def examined(
    url: str, file: str | None = None, size: int = SIZE, **how: object
) -> tuple[bool, Findings]:
    """Whether a server was reached, and what was found with fragments up to a size."""
    findings = Findings(lambda _finding: None)
    urls = (URL(url), None if file is None else URL(file))
    reached = await examine(urls, size, replace(OPTIONS, **how), findings)
    return reached, findings


def symptoms(findings: Findings) -> list[Symptom]:
    return [fault.symptom for fault in findings.faults]


def told(findings: Findings, probe: str) -> str:
    """What a probe said last."""
    found = [each for each in findings.all if each.probe == probe]
    return f"{found[-1].result.value}: {found[-1].detail}"
