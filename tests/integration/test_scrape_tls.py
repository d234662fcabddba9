"""Targets behind TLS: trusted by the CA file they were given with, and by nothing less."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.sources.http import Access
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from tests.support.certificates import certificate
from tests.support.exposition import Exposition, line, page, serve

pytestmark = pytest.mark.real("openssl")


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Exposition, Path]]:
    """An endpoint behind TLS, and the certificate it shows."""
    key, certified = certificate(tmp_path, "agent")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified, key)
    with serve(context) as exposition:
        exposition.show(page(line(semconv.SESSION_TOKENS, 5, "run-1")))
        yield exposition, certified


def scrape(url: str, *ca_files: Path | None) -> list[Observation]:
    """Scrape once with each CA file, all through one source per file."""

    async def readings() -> list[Observation]:
        found = []
        for ca_file in ca_files:
            target = ScrapeTarget(url, Access(ca_file=ca_file))
            source = ScrapeSource(ScrapeSettings([target], timeout=5), time.time)
            found.append(await source.read())
            await source.close()
        return found

    return asyncio.run(readings())


def test_a_target_is_trusted_by_its_ca_file_only(
    secure: tuple[Exposition, Path], tmp_path: Path
) -> None:
    """Neither the system's certificates nor somebody else's will do."""
    exposition, certified = secure
    _, strangers = certificate(tmp_path, "stranger")
    trusted, by_system, by_stranger = scrape(exposition.url, certified, None, strangers)
    assert len(trusted.sessions) == 1
    for refused in (by_system, by_stranger):
        assert refused.sessions == ()
        assert "CERTIFICATE_VERIFY_FAILED" in refused.problems[0].detail


def test_a_ca_file_that_was_replaced_is_read_again(
    secure: tuple[Exposition, Path], tmp_path: Path
) -> None:
    """Certificates are rotated while the sidecar runs."""
    exposition, certified = secure
    _, strangers = certificate(tmp_path, "stranger")
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(strangers.read_bytes())

    async def readings() -> list[Observation]:
        target = ScrapeTarget(exposition.url, Access(ca_file=ca_file))
        source = ScrapeSource(ScrapeSettings([target], timeout=5), time.time)
        before = await source.read()
        ca_file.write_bytes(certified.read_bytes())
        after = await source.read()
        await source.close()
        return [before, after]

    before, after = asyncio.run(readings())
    assert (len(before.sessions), len(after.sessions)) == (0, 1)
