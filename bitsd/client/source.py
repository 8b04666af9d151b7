"""The file that is uploaded: what it is known by, and its bytes while it stays so."""

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from .progress import TransferFailed


@dataclass(frozen=True, slots=True)
class Looks:
    """What a file is known by; one that changed looks different.

    BITS looks at size and time too ([MC-BUP] has nothing better): 0x8020001D.
    """

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> "Looks":
        """Those of a file just looked at."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)


class Source:
    """A file that is open; its calls block.

    Raises:
        TransferFailed: it is no file, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise TransferFailed(f"cannot read {path}: {error.strerror}") from None
        stat = os.fstat(self._handle)
        self.looks = Looks.of(stat)
        if not S_ISREG(stat.st_mode):
            self.close()
            raise TransferFailed(f"{path} is not a file")

    def close(self) -> None:
        """Nothing is read any more."""
        os.close(self._handle)

    def check(self) -> None:
        """Make sure that there is still the same file under the name.

        Raises:
            TransferFailed: there is not.
        """
        try:
            same = Looks.of(self.path.stat()) == self.looks
        except OSError as error:
            message = f"{self.path} is gone while it is uploaded: {error.strerror}"
            raise TransferFailed(message) from None
        if not same:
            remedy = "--restart sends what it is now"
            raise TransferFailed(f"{self.path} changed while it is uploaded; {remedy}")

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, which did not change before they were read.

        Raises:
            TransferFailed: it did, or they cannot be read.
        """
        try:
            octets = os.pread(self._handle, length, offset)
        except OSError as error:
            raise TransferFailed(f"cannot read {self.path}: {error.strerror}") from None
        self.check()
        if len(octets) < length:
            raise TransferFailed(f"{self.path} cannot be read at byte {offset}")
        return octets
