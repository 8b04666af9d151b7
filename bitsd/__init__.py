"""bitsd: a server for the BITS upload protocol with ranged downloads."""

__version__ = "0.1.0"

#: How it names itself to the other side.
SOFTWARE = f"bitsd/{__version__}"
