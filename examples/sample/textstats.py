"""Counts words."""

from collections import Counter


def word_counts(text: str) -> Counter:
    """How often each word occurs, without regard to case."""
    return Counter(text.lower().split(" "))


def longest_words(text: str, how_many: int = 3) -> list[str]:
    """The longest words, the longest first, each once."""
    return sorted(word_counts(text), key=lambda word: (-len(word), word))[:how_many]
