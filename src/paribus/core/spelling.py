"""A hint for a word that nobody knows: what it may have been meant to be."""

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' (did you mean x?)' when something is close, else ''."""
    import difflib  # 5 ms, and needed for a mistake alone

    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
