"""Text of other people in Markdown: a class or a caption may hold tags, links and table marks."""

_ESCAPED = {"<": "&lt;", "|": r"\|", "](": r"]\("}


def in_markdown(text: str) -> str:
    """Return a text as Markdown shows it, on one line: no tag, link or table mark has an effect."""
    for mark, escaped in _ESCAPED.items():
        text = text.replace(mark, escaped)
    return " ".join(text.splitlines())


def in_code(text: str) -> str:
    """Return a text as code in a line of Markdown, which no mark in the text can end."""
    return f"`{' '.join(text.splitlines()).replace('`', chr(39))}`"
