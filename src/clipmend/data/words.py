"""The words of a caption, compared without case and punctuation."""

from collections.abc import Sequence

_LONGEST_MEAN = 12  # characters of a mean word; captions with longer ones have no spaces
_PIECE = 3  # characters of a piece of such a caption


def words_of(caption: str) -> set[str]:
    """Return the words of a caption in lower case, without punctuation at their ends."""
    return {bare(word) for word in caption.split()} - {""}


def bare(word: str) -> str:
    """Return a word in lower case, without punctuation at its ends."""
    return word.strip(".,;:!?\"'()[]").lower()


def vocabulary_of(captions: Sequence[str]) -> dict[str, list[int]]:
    """Return the words of all captions, each with the rows of the captions that have it.

    Captions of a language that is written without spaces have pieces of three characters instead:
    parts of a word are then found in its place.
    """
    rows: dict[str, list[int]] = {}
    letters = sum(len(caption) for caption in captions)
    spaced = letters <= _LONGEST_MEAN * sum(len(caption.split()) for caption in captions)
    split = words_of if spaced else _pieces
    for row, caption in enumerate(captions):
        for word in sorted(split(caption)):
            rows.setdefault(word, []).append(row)
    return rows


def _pieces(caption: str) -> set[str]:
    return {caption[at : at + _PIECE] for at in range(max(1, len(caption) - _PIECE + 1))}
