"""When something that failed is tried again, and when it is given up."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import mktime_tz, parsedate_tz

from bitsd.protocol.wire import Field

#: BITS gives up after as long without progress (SetNoProgressTimeout).
RETRY_FOR = timedelta(days=14)

#: Before the first repetition.
FIRST_SECONDS = 1.0

LONGEST_SECONDS = 300.0

#: A server that asks for more patience is asked again earlier.
LONGEST_RETRY_AFTER = 3600.0

#: Doubling beyond it would not fit a number.
_DOUBLINGS = 9

_NUMBER = re.compile(r"\d{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often it failed, and since when nothing came of trying.

    Attributes:
        retry_for: without progress, and it is given up.
        failures: one after the other.
        progressed_at: the last time that something did.
    """

    retry_for: timedelta = RETRY_FOR
    failures: int = 0
    progressed_at: float = 0.0

    def rewarded(self, now: float) -> "Patience":
        """It got on."""
        return replace(self, failures=0, progressed_at=now)

    def tried(self) -> "Patience":
        """It failed once more."""
        return replace(self, failures=self.failures + 1)

    def wait_seconds(self, now: float, chance: float, asked: float) -> float | None:
        """Before the next try, or None to give up; the last try is at the very end.

        Doubled each time, and not the same for all who lost the same server.

        Args:
            now: seconds of the clock of `progressed_at`.
            chance: drawn at random from 0 up to 1.
            asked: by the server, on top of that.
        """
        left = self.progressed_at + self.retry_for.total_seconds() - now
        if left <= 0:
            return None
        doubled = FIRST_SECONDS * 2.0 ** min(self.failures - 1, _DOUBLINGS)
        return min(min(doubled, LONGEST_SECONDS) * (0.75 + chance / 2) + asked, left)


def retry_after(fields: Iterable[Field]) -> float:
    """Seconds that the server asks to wait (RFC 9110 10.2.3); 0 if it does not."""
    headers = {name.lower(): value.strip() for name, value in fields}
    value = headers.get("retry-after", "")
    if _NUMBER.fullmatch(value):
        return min(float(value), LONGEST_RETRY_AFTER)
    # By the server's clock, which may be another than ours.
    then, now = http_date(value), http_date(headers.get("date"))
    if then is None or now is None:
        return 0.0
    return float(min(max(then - now, 0), LONGEST_RETRY_AFTER))


def http_date(value: str | None) -> int | None:
    """A date of HTTP (RFC 9110 5.6.7) as seconds since 1970; None if it is none."""
    try:
        parsed = parsedate_tz(value or "")
        # The format of asctime names no zone, and means GMT like the others.
        return None if parsed is None else mktime_tz((*parsed[:9], parsed[9] or 0))
    except (ValueError, OverflowError):
        return None
