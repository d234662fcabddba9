"""Where the sidecar is, and with what to ask it.

An agent's hook loads this at every step: TLS, paths and the like only where they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.errors import InvalidValueError
from otel_budget.files.token_file import read_token
from otel_budget.net.url import UrlError, split_url
from otel_budget.runtime.environment import setting

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

#: Named like those of OpenTelemetry's OTLP exporter.
ENV_TOKEN_FILE: Final = "OTEL_BUDGET_SIDECAR_TOKEN_FILE"  # noqa: S105 - the name of a variable
ENV_CA: Final = "OTEL_BUDGET_SIDECAR_CERTIFICATE"
ENV_CERTIFICATE: Final = "OTEL_BUDGET_SIDECAR_CLIENT_CERTIFICATE"
ENV_KEY: Final = "OTEL_BUDGET_SIDECAR_CLIENT_KEY"
#: All of them, each naming a file.
CREDENTIALS: Final = (ENV_TOKEN_FILE, ENV_CA, ENV_CERTIFICATE, ENV_KEY)


class Credentials(NamedTuple):
    """What the sidecar asks for. Files are read for every connection, so new ones are taken up."""

    token_file: Path | None = None
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    certificate_file: Path | None = None
    """Certificate chain to show."""
    key_file: Path | None = None
    """Its key; None if it is in the same file."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Credentials:
        """Take the files that the environment names."""
        named = [setting(name, environ) for name in CREDENTIALS]
        if not any(named):
            return cls()
        from pathlib import Path

        return cls(*(Path(one) if one else None for one in named))


class SidecarAddress(NamedTuple):
    """Where the sidecar is, and with what to ask it."""

    secure: bool
    host: str
    port: int | None
    path: str
    credentials: Credentials = Credentials()

    @classmethod
    def parse(cls, url: str, credentials: Credentials | None = None) -> SidecarAddress:
        """Read an http or https URL. Raises InvalidValueError for anything else.

        credentials: by default what the environment names.
        """
        try:
            parts = split_url(url)
        except UrlError as exc:
            allowed = "an http:// or https:// URL such as http://127.0.0.1:9465"
            if exc.has_user:
                allowed = f"a URL without a user: use {ENV_TOKEN_FILE}"
            raise InvalidValueError("sidecar", exc.shown, allowed) from exc
        host, secure, path = parts.hostname or "", parts.scheme == "https", parts.path.rstrip("/")
        if credentials is None:
            credentials = Credentials.from_environment()
        if not secure and credentials.token_file is not None:
            from otel_budget.sdk.sidecar_client.clear_text import warn_of_clear_text

            warn_of_clear_text(host, f"{parts.scheme}://{parts.netloc}")
        return cls(secure, host, parts.port, path, credentials)

    def context(self) -> ssl.SSLContext | None:
        """Return what TLS needs; None without it. Raises OSError for files that do not do."""
        if not self.secure:
            return None
        import ssl

        files = self.credentials
        context = ssl.create_default_context(cafile=files.ca_file)
        if files.certificate_file is not None:
            context.load_cert_chain(files.certificate_file, files.key_file)
        return context

    def headers(self, accept: str) -> dict[str, str]:
        """Return the headers of a request. Raises TokenFileError."""
        token_file = self.credentials.token_file
        if token_file is None:
            return {"Accept": accept}
        return {"Accept": accept, "Authorization": f"Bearer {read_token(token_file)}"}
