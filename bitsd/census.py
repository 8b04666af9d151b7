"""What a start finds in BITS-Sessions: what counts, and what should be looked at."""

from functools import partial

from . import journal
from .batches import batches
from .disk import Disk
from .owners import Owners
from .protocol.session import Session
from .protocol.wire import SessionId
from .record import SessionDamaged, SessionNotFound

#: What an operator may do about what the system does not let us do.
CHECK = "check that the server's user owns it and that the disk works"


async def count(disk: Disk, owners: Owners) -> None:
    """Count the sessions that an earlier run left, and tell what is odd there.

    Raises:
        OSError: the folder cannot be read.
    """
    damaged, strangers = journal.Few("damaged"), journal.Few("stranger")
    async for found in batches(map(partial(_found, disk, damaged), disk.ids())):
        await owners.count(filter(None, found))
    async for paths in batches(disk.strangers()):
        for path in filter(None, paths):
            strangers.warn(path=path, remedy="bitsd leaves it; take it away")
    damaged.end()
    strangers.end()


def _found(disk: Disk, damaged: journal.Few, named: SessionId) -> Session | None:
    path = disk.request(named).parent
    try:
        return disk.read(named)
    except SessionDamaged as error:
        remedy = "repair or remove it; else it expires"
        damaged.warn(path=path, detail=error, remedy=remedy)
    except SessionNotFound:
        pass  # forgotten meanwhile, or litter
    except OSError as error:
        damaged.warn(path=path, detail=error, remedy=CHECK)
    return None
