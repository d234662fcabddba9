"""Where verdicts are served, and who may ask for them."""

from __future__ import annotations

from typing import Final

from pydantic import Field, model_validator

from otel_budget.config.listening import Listening
from otel_budget.config.section import Section, Strict
from otel_budget.config.values import (
    Address,
    FilePath,
    HostName,
    Network,
    PositiveInt,
    Seconds,
    Size,
    YesOrNo,
)
from otel_budget.errors import InvalidValueError

DEFAULT_ADDRESS: Final = "127.0.0.1:9465"


class TlsConfig(Strict):
    """Certificates, read again when they change."""

    cert_file: FilePath
    """The chain to show, PEM."""
    key_file: FilePath
    """Its key, PEM, without a password."""
    client_ca_file: FilePath | None = None
    """If given, a client must show a certificate of one of these authorities (mutual TLS)."""


class ClientLimitsConfig(Section):
    """How much of the server clients may take."""

    connections: PositiveInt = 10_000
    """In all; fewer where the process may not open as many files."""
    streams_per_client: PositiveInt = 1000
    """From one address."""
    request_body: Size = 65_536
    request_timeout: Seconds = 10.0
    """For a request to arrive, and for the client to read what was sent."""


class ListenConfig(Listening):
    """Where verdicts are served.

    Without a token, everyone who reaches the address may read. So by default it is on the loopback
    interface; on any other, the configuration has to say who may.
    """

    address: Address = DEFAULT_ADDRESS
    read_token_file: FilePath | None = None
    """Tokens, one on each line; one of them is needed to read."""
    admin_token_file: FilePath | None = None
    """Tokens that may also act (stop, release, limits). Without the file no one can act."""
    tls: TlsConfig | None = None
    limits: ClientLimitsConfig = Field(default_factory=ClientLimitsConfig)
    allowed_hosts: tuple[HostName, ...] = ()
    """Further names to answer to, where only those of the loopback interface are accepted."""
    trusted_proxies: tuple[Network, ...] = ()
    """Addresses and networks whose X-Forwarded-For names the client that ``limits`` apply to."""
    allow_unauthenticated: YesOrNo = False
    """Serve other hosts without asking who they are."""

    @model_validator(mode="after")
    def _needs_a_way_to_tell_who_asks(self) -> ListenConfig:
        if self.is_loopback or self.asks_who or self.allow_unauthenticated:
            return self
        raise InvalidValueError(
            "",
            self.address,
            "a loopback address, or a way to tell who asks",
            sentence=(
                f"other hosts may reach {self.address}, and nothing asks who they are: give "
                "read_token_file, or tls with client_ca_file; or, if you want that, set "
                "allow_unauthenticated: true"
            ),
        )

    @property
    def asks_who(self) -> bool:
        """True if a reader has to show a token or a certificate."""
        certificates = self.tls is not None and self.tls.client_ca_file is not None
        return self.read_token_file is not None or certificates
