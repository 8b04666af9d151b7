"""How long to wait before the next try."""

import random
from datetime import timedelta

#: BITS gives up after as long without progress (SetNoProgressTimeout).
RETRY_FOR = timedelta(days=14)

#: Of the first wait at most, in seconds.
FIRST_SECONDS = 1.0

#: Of any wait, in seconds.
LONGEST_SECONDS = 60.0


def delay(failures: int, dice: random.Random) -> float:
    """Seconds to wait.

    Half of it is by chance: those who lost the same server come back one by one.

    Args:
        failures: one after the other, before the one now.
        dice: chance.
    """
    most: float = min(FIRST_SECONDS * 2.0 ** min(failures, 30), LONGEST_SECONDS)
    return most * dice.uniform(0.5, 1.0)
