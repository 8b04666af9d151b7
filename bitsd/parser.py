"""aiohttp's parser of requests, as strict as a server behind a proxy has to be."""

from typing import TypeAlias

from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.http_parser import HttpRequestParserPy, RawRequestMessage
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from aiohttp.streams import StreamReader

#: Longest request line, and longest header field: room for a Kerberos ticket.
MAXIMUM_LINE = 65_536

#: Request line and header fields in all, in bytes, but for what is read at once.
MAXIMUM_HEADER = 2 * MAXIMUM_LINE

#: Header fields of a request, a bound on memory.
MAXIMUM_FIELDS = 128

# Of the largest number that 64 bits hold.
_LENGTH_DIGITS = 20

_Fed: TypeAlias = tuple[list[tuple[RawRequestMessage, StreamReader]], bool, bytes]


class Unreadable(BadHttpMessage):
    """Our own words: nothing that the client sent is in the message."""


class Parser(HttpRequestParserPy):
    """aiohttp's, without what a proxy in front could read in another way.

    RFC 9112 11.2: two readings of where a request ends, or of what it asks for, let a
    client get one past the proxy (protocol-notes/http.md).
    """

    def feed_data(self, data: bytes, *_options: object) -> _Fed:
        """Read on; a header that is too long in all is refused before its end."""
        fed = super().feed_data(data)
        if self._lines and sum(map(len, self._lines)) > MAXIMUM_HEADER:
            raise Unreadable(f"a header of over {MAXIMUM_HEADER} bytes")
        return fed

    def parse_message(self, lines: list[bytes]) -> RawRequestMessage:
        """A request whose header was read; what comes is framed by what this says."""
        # aiohttp makes it upper case; RFC 9110 9.1: a method is case-sensitive.
        method = lines[0].partition(b" ")[0].decode("ascii", "replace")
        message = super().parse_message(lines)._replace(method=method)
        try:
            _ = message.url.host
        except ValueError:  # where aiohttp reads it, nothing would catch that
            raise Unreadable("a host that is none") from None
        if message.version not in (HttpVersion10, HttpVersion11):
            raise Unreadable("a version of HTTP that is not spoken here")
        if method == "CONNECT":  # aiohttp would take what follows for a tunnel
            raise Unreadable("there are no tunnels here")
        # Python reads no number of thousands of digits.
        if len(message.headers.get("Content-Length", "")) > _LENGTH_DIGITS:
            raise Unreadable("a Content-Length of too many digits")
        coding = message.headers.get("Transfer-Encoding")
        if coding is None:
            return message
        # RFC 9112 6.1: the framing of such a message in HTTP/1.0 is faulty. aiohttp
        # looks at the last coding only, and no other than this one can be undone.
        if message.version == HttpVersion10 or coding.lower() != "chunked":
            raise Unreadable("a Transfer-Encoding that is not taken here")
        return message
