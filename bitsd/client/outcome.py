"""What an upload tells while it runs, and what becomes of it."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Started:
    """It begins, or goes on from an earlier run of the program."""

    url: str
    size: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """The bytes before `offset` were sent; after an interruption some come again."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """It did not work, and is tried again."""

    seconds: float
    why: str


Happening: TypeAlias = Started | Progress | Waiting


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The server has the whole file.

    Attributes:
        url: of the file.
        size: of it.
        sent: bytes of it given to the network by this run of the program.
        seconds: that this run took.
        reply_url: where the server application's reply was, if there is one.
    """

    url: str
    size: int
    sent: int
    seconds: float
    reply_url: str | None


class UploadFailed(Exception):
    """A file was not uploaded; says why.

    Attributes:
        status: HTTP status of the answer that says so, if one does.
        code: HRESULT in it.
        resumable: trying again may help, and goes on where it was.
    """

    def __init__(
        self,
        why: str,
        *,
        status: int | None = None,
        code: int | None = None,
        resumable: bool = False,
    ) -> None:
        super().__init__(why)
        self.status = status
        self.code = code
        self.resumable = resumable
