"""A server of a few lines that carries tokens of Windows sign-in, and nothing else."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from listening import listening

from bitsd.negotiate import Acceptor, Exchange
from bitsd.outcome import Denied, SignedIn


def _answer(status: str, said: str = "", challenge: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(said)}\r\n"
    if challenge:
        head += f"WWW-Authenticate: {challenge}\r\n"
    return f"{head}\r\n{said}".encode()


async def _reply(exchange: Exchange, scheme: str, sent: str) -> bytes:
    """What a request with this in `Authorization` gets."""
    if not sent:
        return _answer("401 Unauthorized", challenge=scheme)
    token = base64.b64decode(sent.partition(" ")[2])
    try:
        outcome = await asyncio.to_thread(exchange.step, token)
    except Denied as denied:
        return _answer("403 Forbidden", denied.detail)
    said = base64.b64encode(outcome.token or b"").decode()
    if isinstance(outcome, SignedIn):
        return _answer("200 OK", f"{outcome.name} by {outcome.scheme}")
    return _answer("401 Unauthorized", challenge=f"{scheme} {said}")


@asynccontextmanager
async def carrying(acceptor: Acceptor, scheme: str) -> AsyncIterator[str]:
    """Its URL; it answers who signed in."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        exchange = acceptor.start("ntlm" if scheme == "NTLM" else "negotiate", None)
        while request := (await reader.readuntil(b"\r\n\r\n")).decode():
            lines = [line.partition(": ") for line in request.split("\r\n")]
            sent = {name.lower(): value for name, _, value in lines}
            writer.write(await _reply(exchange, scheme, sent.get("authorization", "")))

    async with listening(answer) as port:
        yield f"http://localhost:{port}/"
