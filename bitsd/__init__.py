"""bitsd: a server for the BITS upload protocol with ranged downloads, and a client."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client.download import download
    from .client.fetching import Downloaded, DownloadFailed, How
    from .client.http import Options
    from .client.outcome import Progress, Started, Uploaded, UploadFailed, Waiting
    from .client.upload import Terms, upload

__all__ = [
    "SOFTWARE",
    "DownloadFailed",
    "Downloaded",
    "How",
    "Options",
    "Progress",
    "Started",
    "Terms",
    "UploadFailed",
    "Uploaded",
    "Waiting",
    "download",
    "upload",
]

__version__ = "0.1.0"

#: How it names itself to the other side.
SOFTWARE = f"bitsd/{__version__}"

# What a server has no use for is imported when it is asked for.
_CLIENT = {
    "DownloadFailed": "fetching",
    "Downloaded": "fetching",
    "How": "fetching",
    "Options": "http",
    "Progress": "outcome",
    "Started": "outcome",
    "Terms": "upload",
    "UploadFailed": "outcome",
    "Uploaded": "outcome",
    "Waiting": "outcome",
    "download": "download",
    "upload": "upload",
}


def __getattr__(name: str) -> object:
    if name not in _CLIENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bitsd.client.{_CLIENT[name]}"), name)
