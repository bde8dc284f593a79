"""Text for a terminal: names and values may come from a stranger's files."""


def printable(text: str) -> str:
    """Return a text on one line without characters that control a terminal.

    Escape sequences, line ends and marks of the writing direction are shown as in Python's source.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
