"""Who wrote an answer, and what stands in front of the server: by its fields and page.

Nothing on the wire says so for certain. What is told here is what the products write
unless their names are hidden.
"""

import re
from collections.abc import Iterator, Sequence
from enum import Enum

from .line import Answer


class Hop(Enum):
    """What may stand on the way."""

    SERVER = "the BITS server"
    NGINX = "nginx"
    APACHE = "Apache"
    HAPROXY = "HAProxy"
    CADDY = "Caddy"
    LIGHTTPD = "lighttpd"
    IIS = "IIS"
    SQUID = "Squid"
    AIOHTTP = "a program with aiohttp"
    NODE = "a program with Node.js"
    ENVOY = "Envoy"
    TRAEFIK = "Traefik"
    VARNISH = "Varnish"
    CDN = "a service in front"
    UNKNOWN = "something on the way"


#: By the beginning of Server, in lower case.
_SERVERS = (
    ("nginx", Hop.NGINX),
    ("openresty", Hop.NGINX),
    ("apache", Hop.APACHE),
    ("haproxy", Hop.HAPROXY),
    ("caddy", Hop.CADDY),
    ("lighttpd", Hop.LIGHTTPD),
    ("microsoft-iis", Hop.IIS),
    ("microsoft-httpapi", Hop.IIS),
    ("squid", Hop.SQUID),
    ("python", Hop.AIOHTTP),
    ("envoy", Hop.ENVOY),
    ("varnish", Hop.VARNISH),
    ("cloudflare", Hop.CDN),
    ("cloudfront", Hop.CDN),
    ("awselb", Hop.CDN),
    ("akamai", Hop.CDN),
)

#: By what error pages have in them.
_PAGES = (
    (re.compile(rb"<center>(?:nginx|openresty)"), Hop.NGINX),
    (re.compile(rb"<address>Apache"), Hop.APACHE),
    (re.compile(rb'^<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">'), Hop.APACHE),
    (re.compile(rb"^<html><body><h1>\d{3} [^<]*</h1>"), Hop.HAPROXY),
    (re.compile(rb"HTTP Error 40\d\.\d+|IIS \d+\.\d+ Detailed Error"), Hop.IIS),
    (re.compile(rb"<!-- ?ERR_|\(squid"), Hop.SQUID),
    (re.compile(rb"^404 page not found\n$"), Hop.TRAEFIK),
)


def author(answer: Answer) -> Hop:
    """Who wrote an answer."""
    if answer.is_ack:
        return Hop.SERVER
    for page, hop in _PAGES:
        if page.search(answer.body):
            return hop
    named = _by_server(answer)
    if named is not None:
        return named
    own = (answer.get("Server") or "").lower().startswith("bitsd")
    if own:
        return Hop.SERVER
    bare = {name.lower() for name, _value in answer.fields} <= {"connection"}
    return Hop.NODE if bare else Hop.UNKNOWN


def _by_server(answer: Answer) -> Hop | None:
    server = (answer.get("Server") or "").lower()
    return next((hop for name, hop in _SERVERS if server.startswith(name)), None)


def in_front(answers: Sequence[Answer]) -> Hop | None:
    """What passes the packets on, by what it did to Acks.

    None if nothing shows, UNKNOWN if it may be one of several.
    """
    found = {hop for ack in answers if ack.is_ack for hop in _signs(ack)}
    if len(found) > 1:
        return Hop.UNKNOWN
    return found.pop() if found else None


def _signs(ack: Answer) -> Iterator[Hop]:
    names = [name.lower() for name, _value in ack.fields]
    named = _by_server(ack)
    if named is not None:
        yield named
    # It writes these two itself, whatever the server had.
    if "keep-alive" in names or names[:2] == ["date", "server"]:
        yield Hop.APACHE
    if all(name == name.lower() for name, _value in ack.fields):
        yield Hop.HAPROXY
    via = ack.get("Via")
    if via is not None:
        yield Hop.SQUID if "squid" in via.lower() else Hop.UNKNOWN
