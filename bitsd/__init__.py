"""bitsd: a server for the BITS upload protocol with ranged downloads."""

__version__ = "0.1.0"
