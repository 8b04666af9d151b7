"""Who may do what in a directory, from its lists of names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: In a list: whoever asks, signed in or not.
EVERYONE = "*"

#: In a list: whoever is signed in.
ANY_USER = "@users"

#: What makes an entry of a list the name of a group.
GROUP = "@"

# The only letter beside ASCII's whose small one is in ASCII, a k.
_KELVIN = "\N{KELVIN SIGN}"


def same(name: str) -> str:
    """What is the same for all spellings of a name: case does not count in Windows.

    No letter becomes one of ASCII that is none: it would be in the name of another.
    """
    # Not casefold(), to which more names are one.
    return _KELVIN.join(part.lower() for part in name.split(_KELVIN))


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one list says.

    Attributes:
        everyone: nobody has to sign in.
        any_user: whoever signs in may.
        names: of those who may, as `same` has them.
    """

    everyone: bool
    any_user: bool
    names: frozenset[str]

    def admits(self, user: str | None) -> bool:
        """Whether a user may, or somebody who has not signed in (None)."""
        if self.everyone:
            return True
        return user is not None and (self.any_user or same(user) in self.names)

    @property
    def nobody(self) -> bool:
        """Signing in does not help."""
        return not (self.everyone or self.any_user or self.names)


def allowed(entries: Iterable[str], groups: Mapping[str, Iterable[str]]) -> Allowed:
    """Read a list.

    Args:
        entries: names, `@` and a group's name, `@users` or `*`.
        groups: the users of each; one that is missing has none.
    """
    entries = frozenset(entries)
    names = {entry for entry in entries if not entry.startswith((EVERYONE, GROUP))}
    for group in entries - names - {EVERYONE, ANY_USER}:
        names |= set(groups.get(group.removeprefix(GROUP), ()))
    return Allowed(
        everyone=EVERYONE in entries,
        any_user=ANY_USER in entries,
        names=frozenset(map(same, names)),
    )
