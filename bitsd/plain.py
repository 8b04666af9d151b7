"""Text that came from elsewhere, as a terminal may be given it."""


def plain(text: str) -> str:
    """The text with what would end a line, or move the cursor, in Python's escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
