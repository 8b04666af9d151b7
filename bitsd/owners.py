"""How many sessions each user has, or each address of anonymous clients.

And how much all of them take up.

There is one table for each directory, in one process: whoever serves asks it, from
there or from another process. What it holds are ids, so that being told a thing twice
does no harm. It may hold sessions that somebody removed by hand; they are found when
they would be in the way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Self, assert_never

import msgspec

from .config import Directory
from .protocol.refusal import Reason, Refusal
from .protocol.session import Session, State
from .protocol.wire import SessionId
from .spool import Spool

#: Ids that are looked up on the disk for one session too many.
MAXIMUM_LOOKED_UP = 1000

#: Longest owner, in characters: many fit into one message.
MAXIMUM_OWNER = 128


class _Question(msgspec.Struct, frozen=True, tag=True):
    """To the table of a directory, by its place in the configuration."""

    directory: int


class Admit(_Question, frozen=True, tag=True):
    """May this owner make one more session? It is then counted, as pending."""

    named: SessionId
    owner: str


class Made(_Question, frozen=True, tag=True):
    """A pending session is on the disk."""

    named: SessionId


class Claim(_Question, frozen=True, tag=True):
    """May this session take up so many bytes until it is finished?"""

    named: SessionId
    size: int


class Count(_Question, frozen=True, tag=True):
    """These sessions are there, whatever the limits."""

    owners: dict[SessionId, str]
    sizes: dict[SessionId, int] = {}


class Discount(_Question, frozen=True, tag=True):
    """These sessions are there no more."""

    named: list[SessionId]


Question = Admit | Made | Claim | Count | Discount


class Full(msgspec.Struct, frozen=True, tag=True):
    """It may not: `limit` is reached, and `made` are some of the sessions meant."""

    limit: int
    made: tuple[SessionId, ...]


Answer = Full | None

Ask = Callable[[Question], Awaitable[Answer]]

#: Which of these sessions are not on the disk; may block.
Missing = Callable[[Sequence[SessionId]], list[SessionId]]


class Owners:
    """Whom the sessions of a directory count for, as those see it who serve.

    Args:
        directory: its place in the configuration.
        ask: asks the tables, wherever they are.
    """

    def __init__(self, directory: int, ask: Ask) -> None:
        self._directory = directory
        self._ask = ask

    async def admit(self, session: Session, missing: Missing) -> None:
        """Count a session that is about to be made.

        Raises:
            Refusal: TOO_MANY_SESSIONS.
        """
        question = Admit(self._directory, session.id, owner(session))
        full = await self._full(question, missing)
        if full is not None:
            detail = f"{question.owner} has {full.limit} sessions"
            raise Refusal(Reason.TOO_MANY_SESSIONS, detail)

    async def claim(self, named: SessionId, size: int, missing: Missing) -> None:
        """Let a session take up `size` bytes; 0 once it is finished.

        Raises:
            Refusal: SPOOL_FULL.
        """
        full = await self._full(Claim(self._directory, named, size), missing)
        if full is not None:
            detail = f"{size} bytes more would be over {full.limit}"
            raise Refusal(Reason.SPOOL_FULL, detail)

    async def _full(self, question: Question, missing: Missing) -> Full | None:
        """The answer, once sessions that somebody removed are no longer in the way."""
        full = await self._ask(question)
        if full is None:
            return None
        gone = await asyncio.to_thread(missing, full.made)
        await self.discount(*gone)
        return await self._ask(question)

    async def made(self, named: SessionId) -> None:
        """A session that was admitted is on the disk."""
        await self._ask(Made(self._directory, named))

    async def count(self, sessions: Iterable[Session]) -> None:
        """Count sessions that there are, whatever the limits."""
        found = list(sessions)
        owners = {session.id: owner(session) for session in found}
        sizes = {session.id: size(session) for session in found}
        await self._ask(Count(self._directory, owners, sizes))

    async def discount(self, *named: SessionId) -> None:
        """Forget sessions; once is enough."""
        await self._ask(Discount(self._directory, list(named)))


def owner(session: Session) -> str:
    """Whom a session counts for."""
    if session.user is not None:
        return f"user {session.user}"[:MAXIMUM_OWNER]
    return f"address {session.address}"[:MAXIMUM_OWNER]


def size(session: Session) -> int:
    """What a session takes up until it is finished, in bytes."""
    unfinished = session.state is not State.WAIT_FOR_CLOSE
    return session.total or 0 if unfinished else 0


class Table:
    """The sessions of one directory.

    Args:
        limit: sessions of one owner at once.
        spool: bytes that all of them may take up; None is no limit.
    """

    def __init__(self, limit: int, spool: int | None = None) -> None:
        self._limit = limit
        self._spool = Spool(spool)
        self._owners: dict[SessionId, str] = {}
        # Of each owner, in the order in which they are next to be looked up.
        self._sessions: dict[str, dict[SessionId, None]] = {}
        self._pending: dict[SessionId, int] = {}

    def admit(self, named: SessionId, owner: str, asking: int) -> Answer:
        """Count a session that process `asking` is about to make, if it may."""
        mine = self._sessions.get(owner, {})
        if len(mine) < self._limit:
            self.count({named: owner})
            self._pending[named] = asking
            return None
        made = (each for each in mine if each not in self._pending)
        some = tuple(islice(made, MAXIMUM_LOOKED_UP))
        for each in some:
            mine[each] = mine.pop(each)
        return Full(self._limit, some)

    def claim(self, named: SessionId, size: int) -> Answer:
        """Let a session take up so much, if there is room."""
        if self._spool.claim(named, size):
            return None
        return Full(self._spool.limit or 0, self._spool.some(MAXIMUM_LOOKED_UP))

    def made(self, named: SessionId) -> None:
        """It is pending no more."""
        self._pending.pop(named, None)

    def count(
        self,
        owners: Mapping[SessionId, str],
        sizes: Mapping[SessionId, int] = MappingProxyType({}),
    ) -> None:
        """Count those that are not."""
        self._spool.count(sizes)
        for named, owner in owners.items():
            if named not in self._owners:
                self._owners[named] = owner
                self._sessions.setdefault(owner, {})[named] = None

    def discount(self, named: Iterable[SessionId]) -> None:
        """Forget them; once is enough."""
        for each in named:
            self._spool.free(each)
            self._pending.pop(each, None)
            owner = self._owners.pop(each, None)
            if owner is not None:
                mine = self._sessions[owner]
                del mine[each]
                if not mine:
                    del self._sessions[owner]

    def died(self, asking: int) -> None:
        """What a process had pending may be on the disk or not: let it be looked up."""
        self._pending = {
            named: process
            for named, process in self._pending.items()
            if process != asking
        }


class Tables:
    """The tables of all directories.

    Args:
        tables: in the order of the configuration.
    """

    @classmethod
    def of(cls, directories: Iterable[Directory]) -> Self:
        """Those of a configuration."""
        return cls(
            Table(each.sessions_per_user, each.maximum_spool_size)
            for each in directories
        )

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = [*tables]

    async def ask(self, question: Question) -> Answer:
        """`answer`, to the process that the tables are in."""
        return self.answer(question, 0)

    def answer(self, question: Question, asking: int) -> Answer:
        """Do as process `asking` says.

        Raises:
            IndexError: there is no such directory.
        """
        table = self._tables[question.directory]
        match question:
            case Admit(named=named, owner=owner):
                return table.admit(named, owner, asking)
            case Made(named=named):
                table.made(named)
            case Claim(named=named, size=size):
                return table.claim(named, size)
            case Count(owners=owners, sizes=sizes):
                table.count(owners, sizes)
            case Discount(named=gone):
                table.discount(gone)
            case _:
                assert_never(question)
        return None

    def died(self, asking: int) -> None:
        """A process is no more."""
        for table in self._tables:
            table.died(asking)
