"""Usage that a server repeats with every chunk of a stream, and frameworks add up. Pure.

The rules:
- Chunks that each have an input, none below the one before, repeat a running total: the last one is
  the input. What is told once, or in parts, has chunks without an input.
- So do outputs that never fall, and that rise, come but twice or come with chunks without a text.
  An output that falls, or stays the same with every text, is told in parts: the sum counts.
"""

from __future__ import annotations

from typing import Final

_TWICE: Final = 2


class RunningTotal:
    """Watches the chunks of one stream."""

    def __init__(self) -> None:
        self._chunks = 0
        self._summed = self._last = (0, 0)
        self._input_repeats = self._output_grows = True
        self._output_rose = self._without_text = False

    def see(self, into: int, out: int, *, has_text: bool = True) -> None:
        """Take in the usage of one chunk; one without any is none."""
        if not into and not out:
            return
        last_into, last_out = self._last
        if self._chunks:
            self._output_rose = self._output_rose or out > last_out
            self._without_text = self._without_text or not has_text
        self._input_repeats = self._input_repeats and into > 0 and into >= last_into
        self._output_grows = self._output_grows and out >= last_out
        self._chunks += 1
        self._summed = (self._summed[0] + into, self._summed[1] + out)
        self._last = (into, out)

    def is_added_up(self, into: object, out: object) -> bool:
        """Tell whether a framework's usage is the sum of what was no part of it."""
        return self._chunks > 1 and self._input_repeats and (into, out) == self._summed

    @property
    def used(self) -> tuple[int, int]:
        """Input and output, if it is."""
        is_total = self._output_grows and (
            self._output_rose or self._chunks == _TWICE or self._without_text
        )
        return self._last[0], self._last[1] if is_total else self._summed[1]
