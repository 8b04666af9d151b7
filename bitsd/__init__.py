"""bitsd: a server for the BITS upload protocol with ranged downloads, and a client."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client.download import download
    from .client.fetching import Downloaded, How
    from .client.options import Options
    from .client.progress import Event, Kind, Tell, TransferFailed
    from .client.upload import Terms, Uploaded, upload

__all__ = [
    "SOFTWARE",
    "Downloaded",
    "Event",
    "How",
    "Kind",
    "Options",
    "Tell",
    "Terms",
    "TransferFailed",
    "Uploaded",
    "download",
    "upload",
]

__version__ = "0.1.0"

#: How it names itself to the other side.
SOFTWARE = f"bitsd/{__version__}"

# What a server has no use for is imported when it is asked for.
_CLIENT = {
    "Downloaded": "fetching",
    "Event": "progress",
    "How": "fetching",
    "Kind": "progress",
    "Options": "options",
    "Tell": "progress",
    "Terms": "upload",
    "TransferFailed": "progress",
    "Uploaded": "upload",
    "download": "download",
    "upload": "upload",
}


def __getattr__(name: str) -> object:
    if name not in _CLIENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bitsd.client.{_CLIENT[name]}"), name)
