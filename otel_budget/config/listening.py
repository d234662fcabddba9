"""An address to listen on, as each section that has one reads it."""

from __future__ import annotations

from otel_budget.config import values
from otel_budget.config.section import Section
from otel_budget.config.values import Address
from otel_budget.net.loopback import is_loopback


class Listening(Section):
    """Where something is served. A section gives the address its default."""

    address: Address

    @property
    def host(self) -> str:
        """Host name or address, without brackets."""
        return values.split_address(self.address)[0]

    @property
    def port(self) -> int:
        """0 for a free one."""
        return values.split_address(self.address)[1]

    @property
    def is_loopback(self) -> bool:
        """True if only this host reaches it."""
        return is_loopback(self.host)
