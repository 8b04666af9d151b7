"""`bitsd doctor`: what a BITS job would meet on its way to a server."""
