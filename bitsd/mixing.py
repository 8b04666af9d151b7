"""A command's line, with its options wherever they are."""

import argparse
from collections.abc import Sequence


class Mixing(argparse.ArgumentParser):
    """Takes options also between two arguments, and says itself what it does not know.

    Attributes:
        mixes: argparse cannot do it for a parser that has commands of its own, or
            arguments that exclude each other.
    """

    mixes = False

    # The base has overloads for namespaces of other classes, which nobody here has.
    def parse_known_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """The arguments, and those that are not known."""
        if not self.mixes:
            return super().parse_known_args(args, namespace)
        self.mixes = False  # for what follows comes here again
        try:
            given, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self.mixes = True
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return given, unknown
