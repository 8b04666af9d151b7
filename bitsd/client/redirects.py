"""Where a server says that a file is instead."""

from collections.abc import Mapping

from yarl import URL

from .trouble import NoAnswer

#: So many in a row lead nowhere.
MAXIMUM = 10

_STATUSES = frozenset((301, 302, 303, 307, 308))

#: Longer ones are cut where they are shown.
_SHOWN = 200


def target(url: URL, status: int, fields: Mapping[str, str]) -> URL | None:
    """Where an answer sends its client, or None if it does not.

    Args:
        url: that was asked.
        status: of the answer.
        fields: of the answer; their names are found in any case.

    Raises:
        NoAnswer: it sends it to what is no web server.
    """
    named = fields.get("Location")
    if status not in _STATUSES or named is None:
        return None
    try:
        found = url.join(URL(named))
    except ValueError:
        found = URL()
    if found.scheme not in ("http", "https") or not found.host:
        why = f"{url.host_port_subcomponent} redirects to what is no http or https URL"
        raise NoAnswer(why, final=True, status=status)
    return found


def advice(url: URL, to: URL) -> str:
    """For who has to follow a redirect by hand; shows no password and no query."""
    shown = str(to.with_user(None).with_query(None).with_fragment(None))[:_SHOWN]
    return f"{url.host_port_subcomponent} redirects to {shown}; use that URL"
