"""The way to a server: whom to trust, and the proxy of the environment."""

import asyncio
import ipaddress
import ssl
from functools import lru_cache
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

from aiohttp import ServerDisconnectedError
from yarl import URL

from .options import Options
from .trouble import NoAnswer

#: Who does not answer a handshake by then does not speak TLS.
_PROBE_SECONDS = 3.0


def tls(options: Options) -> ssl.SSLContext:
    """Whom to trust, and with what certificate to go there.

    Raises:
        NoAnswer: a file of the options cannot be used.
    """
    if options.ca is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(options.ca)
        except OSError as error:
            raise _unusable("--ca", options.ca, error) from error
    if options.certificate is not None:
        try:
            context.load_cert_chain(options.certificate, options.key)
        except OSError as error:
            raise _unusable("--cert", options.certificate, error) from error
    return context


def shared_tls(options: Options) -> ssl.SSLContext:
    """The same, once for all until a file of it is another; nobody may change it.

    It takes tens of milliseconds to read all whom a system trusts, and what `sync` does
    for months has to see certificates that are renewed.

    Raises:
        NoAnswer: as by `tls`.
    """
    ca, certificate, key = options.ca, options.certificate, options.key
    system = ssl.get_default_verify_paths().cafile
    looks = tuple(map(_looks, (ca, certificate, key, system)))
    return _tls(Options(ca=ca, certificate=certificate, key=key), looks)


@lru_cache(maxsize=8)
def _tls(options: Options, _stamps: object) -> ssl.SSLContext:
    return tls(options)


def _looks(file: str | Path | None) -> tuple[int, int, int] | None:
    """What a file is known by, if there is one."""
    if file is None:
        return None
    try:
        stat = Path(file).stat()
    except OSError:
        return None  # whoever reads it says why
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _unusable(option: str, path: object, error: OSError) -> NoAnswer:
    """The file of an option; ssl.SSLError is an OSError with a reason."""
    reason = getattr(error, "reason", None) or error.strerror
    return NoAnswer(f"cannot use {option} {path}: {reason}", final=True)


def proxy(url: URL) -> URL | None:
    """The proxy of the environment.

    aiohttp's `trust_env` would find it, and would take the password for a server from
    ~/.netrc as well, to send it before anybody asks.

    Raises:
        NoAnswer: it is of a kind that cannot be used.
    """
    setting = _setting(url)
    if setting is None:
        return None
    named = setting[1]
    found = URL(named if "://" in named else f"http://{named}")
    if found.scheme not in ("http", "https") or found.host is None:
        kind = f"{url.scheme}_proxy is {found.scheme}://"
        raise NoAnswer(f"{kind}: only http and https proxies can be used", final=True)
    return found


def named_proxy(url: URL) -> str | None:
    """The proxy of the environment for who looks for it, without its password."""
    setting = _setting(url)
    found = proxy(url)
    if setting is None or found is None:
        return None
    return f"the proxy {found.host_port_subcomponent} ({setting[0]}_proxy)"


def _setting(url: URL) -> tuple[str, str] | None:
    """The kind and value of the variable that says how to get there."""
    proxies = getproxies()
    kind = url.scheme if url.scheme in proxies else "all"
    if kind not in proxies or proxy_bypass(url.authority):
        return None
    return kind, proxies[kind]


async def wants_tls(error: Exception, url: URL, timeout_seconds: float) -> bool:
    """A server that ends a connection without a word takes part in a TLS handshake.

    Args:
        error: that a request without TLS met.
        url: asked by it.
        timeout_seconds: for a handshake, but it does not get more than some.
    """
    if url.scheme != "http" or not isinstance(error, ServerDisconnectedError):
        return False
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent
    try:
        async with asyncio.timeout(min(timeout_seconds, _PROBE_SECONDS)):
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


def is_loopback(host: str) -> bool:
    """What is sent there stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
