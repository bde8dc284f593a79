"""The words of a caption, compared without case and punctuation."""


def words_of(caption: str) -> set[str]:
    """Return the words of a caption in lower case, without punctuation at their ends."""
    return {bare(word) for word in caption.split()} - {""}


def bare(word: str) -> str:
    """Return a word in lower case, without punctuation at its ends."""
    return word.strip(".,;:!?\"'()[]").lower()
