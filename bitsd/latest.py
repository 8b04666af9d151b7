"""What may be read again while a server runs: its configuration and its users."""

from collections.abc import Callable

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

    def renew(self) -> None:
        """Read both again.

        Raises:
            ConfigError: as they are now they cannot be used. What was before stays.
        """
        config = self._again()
        users = _users(config)
        self.config, self.users = config, users


def _users(config: Config) -> Users:
    if config.users is None:
        return Users.empty()
    try:
        return Users.load(config.users)
    except ValueError as error:
        raise ConfigError([f"users: {error}"]) from None
