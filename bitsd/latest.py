"""What may be read again while a server runs: its configuration and its users."""

from collections.abc import Callable

import msgspec

from .config import Config, ConfigError
from .users import Users


class Latest:
    """The last of them that could be used.

    Whoever is forked has what its parent had then. Blocks.

    Args:
        config: that with which the server starts.
        again: reads the configuration again.

    Attributes:
        config: that of the last time.
        users: those of the same time.

    Raises:
        ConfigError: the users cannot be read.
    """

    def __init__(
        self, config: Config, again: Callable[[], Config] | None = None
    ) -> None:
        self._again = again or (lambda: config)
        self.config, self.users = config, _users(config)

    def renew(self) -> bool:
        """Read both again; whether the configuration counts.

        It does if nothing but lists, groups and the like has changed: new lists were
        not written for the folders and addresses of before.

        Raises:
            ConfigError: as they are now they cannot be used. What was before stays.
        """
        config = self._again()
        whole = _fixed(config) == _fixed(self.config)
        if not whole:
            config = self.config
        users = _users(config)
        self.config, self.users = config, users
        return whole


def _users(config: Config) -> Users:
    if config.users is None:
        return Users.empty()
    try:
        return Users.load(config.users)
    except ValueError as error:
        raise ConfigError([f"users: {error}"]) from None


def _fixed(config: Config) -> Config:
    """What counts from the start to the end."""
    directories = tuple(
        msgspec.structs.replace(directory, read=(), write=(), authentication=None)
        for directory in config.directory
    )
    return msgspec.structs.replace(
        config, directory=directories, groups={}, certificate=()
    )
