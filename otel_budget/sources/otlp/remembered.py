"""What was seen of late, up to so many: the oldest goes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Remembered(Generic[Key]):
    """A set of the newest keys."""

    def __init__(self, most: int) -> None:
        """most: how many are kept."""
        self._most, self._keys = most, dict[Key, None]()

    def add(self, key: Key) -> bool:
        """Take note of a key; return whether it was not there."""
        known = key in self._keys
        self._keys.pop(key, None)
        self._keys[key] = None  # the one that was seen last is at the end
        if len(self._keys) > self._most:
            del self._keys[next(iter(self._keys))]
        return not known

    def discard(self, key: Key) -> None:
        """Forget a key."""
        self._keys.pop(key, None)

    def __contains__(self, key: Key) -> bool:
        """Tell whether a key is there."""
        return key in self._keys
