"""What calls under way may use, taken off the room of their run before they are made."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple, Protocol


class Amounts(NamedTuple):
    """So much of each resource that can be held; times are not."""

    tokens: int = 0
    api_calls: int = 0
    cost_usd: Decimal = Decimal(0)


class Credit(Protocol):
    """What a process was granted of the budgets that its run shares with others.

    None of it waits or does I/O: it is asked with a lock held. When there is more to be had again,
    the run's reservations are to be told (``Room.look``).
    """

    def take(self, amounts: Amounts) -> bool:
        """Take it off what was granted; False, and nothing is taken, if that is less."""

    def give_back(self, amounts: Amounts) -> None:
        """Take back what was taken and not used."""

    def settle(self, amounts: Amounts) -> None:
        """Take note that so much of what was taken was used, and has been counted."""
