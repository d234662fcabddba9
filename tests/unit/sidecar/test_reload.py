"""SIGHUP: a good file is taken up whole, a bad one changes nothing."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_budget.config.load import load
from otel_budget.sidecar.api.connection_limits import ClientLimits
from otel_budget.sidecar.audit_trail import AuditTrail
from otel_budget.sidecar.factory import make_source, settings_of
from otel_budget.sidecar.receiver.receiver import Receiver
from otel_budget.sidecar.reload import Reloader
from otel_budget.sidecar.storage.base import Restored
from otel_budget.sources.otlp.source import OtlpSource
from tests.support.ports import free_port
from tests.support.sidecar_fixtures import Sidecar, reading, sidecar

FILE = """
source: {{scrape: {{targets: ["{target}"], interval: {interval}}}}}
resource_limits: {{max_tokens: {tokens}}}
listen: {{address: "{address}"}}
storage: {{path: {storage}}}
"""
DEFAULTS = {
    "target": "http://127.0.0.1:9464/metrics",
    "interval": "1s",
    "tokens": "1000",
    "address": "127.0.0.1:9465",
    "storage": "otel-budget.db",
}


class Running:
    """A sidecar with a file of its own."""

    def __init__(self, folder: Path) -> None:
        """Start from the file's defaults."""
        self.file = folder / "sidecar.yaml"
        self.write()
        self.parts: Sidecar = sidecar(folder, reading())
        config = load(self.file)
        self.source = make_source(config.source, self.parts.clock)
        self.parts.loop.change_settings(settings_of(config, self.source, None))
        self.audit = AuditTrail(Restored(), self.parts.clock())
        self.receiver = Receiver(
            self.parts.loop.judge_pushed,
            ClientLimits(),
            self.parts.metrics,
            self.parts.loop.refused_pushes.of,
        )
        self.reloader = Reloader(
            self.file,
            config,
            self.source,
            None,
            loop=self.parts.loop,
            receiver=self.receiver,
            metrics=self.parts.metrics,
            clock=self.parts.clock,
            audit=self.audit,
        )

    def write(self, **values: str) -> None:
        """Write the file anew with these values in place of the defaults."""
        self.file.write_text(FILE.format(**{**DEFAULTS, **values}))

    def reload(self, **values: str) -> None:
        """Write and reload."""
        self.write(**values)
        self.reloader.reload()

    @property
    def ceiling(self) -> float:
        """The ceiling of tokens from the next tick on."""
        settings = self.parts.loop._next
        assert settings is not None
        return float(settings.rules.ceilings["tokens"].limit)

    @property
    def reload_ok(self) -> bool:
        """What the metric says."""
        return "last_reload_successful 1.0" in self.parts.metrics_page()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.parts.storage.close()


def test_new_ceilings_are_taken_up_with_the_source_as_it_is(running: Running) -> None:
    running.reload(tokens="500")
    assert (running.ceiling, running.reload_ok) == (500, True)
    settings = running.parts.loop._next
    assert settings is not None
    assert settings.source is running.source


def test_a_changed_source_is_a_new_one(running: Running) -> None:
    running.reload(target="http://127.0.0.1:9999/metrics", interval="5s")
    settings = running.parts.loop._next
    assert settings is not None
    assert settings.source is not running.source
    assert settings.interval == 5.0


@pytest.mark.parametrize("bad", [{"tokens": "-1"}, {"target": "nowhere"}, {"interval": "[}"}])
def test_a_bad_file_changes_nothing_and_is_said(
    running: Running, bad: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    before = running.parts.loop._next
    running.reload(**bad)
    assert running.parts.loop._next is before
    assert not running.reload_ok
    assert str(running.file) in caplog.text
    running.reload(tokens="700")
    assert (running.ceiling, running.reload_ok) == (700, True)


def test_a_file_that_is_gone_changes_nothing(running: Running) -> None:
    running.file.unlink()
    running.reloader.reload()
    assert not running.reload_ok


@pytest.mark.parametrize("fixed", [{"address": "127.0.0.1:1"}, {"storage": "other.db"}])
def test_what_needs_a_restart_is_said_and_the_rest_applies(
    running: Running, fixed: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    running.reload(tokens="500", **fixed)
    assert "takes effect after a restart" in caplog.text
    assert (running.ceiling, running.reload_ok) == (500, True)


def test_flags_cannot_be_reloaded_and_that_is_said(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    parts = running.parts
    Reloader(
        None,
        load(running.file),
        running.source,
        None,
        loop=parts.loop,
        receiver=running.receiver,
        metrics=parts.metrics,
        clock=parts.clock,
        audit=running.audit,
    ).reload()
    assert "came from flags" in caplog.text
    assert running.reload_ok


PUSHED = """
source: {{otlp: {{address: "127.0.0.1:{port}", idle: {idle}}}}}
resource_limits: {{max_tokens: {tokens}}}
storage: {{path: otel-budget.db}}
"""


def pushes_of(running: Running) -> object:
    """Return what programs push to from the next tick on."""
    settings = running.parts.loop._next
    assert settings is not None
    return settings.pushes


def endpoint_of(running: Running) -> str:
    """Return where the receiver is; empty if there is none."""
    info = running.receiver.info
    return "" if info is None else info.endpoint


def test_what_was_pushed_outlives_all_but_another_way_to_read_it(running: Running) -> None:
    """Ceilings, addresses and tokens leave it; so does a source that is asked beside it."""

    async def scene() -> None:
        def reload(text: str) -> object:
            running.file.write_text(text)
            running.reloader.reload()
            assert running.reload_ok
            return pushes_of(running)

        ports = free_port(), free_port()
        first = reload(PUSHED.format(port=ports[0], idle="30m", tokens=5))
        assert isinstance(first, OtlpSource)
        assert endpoint_of(running) == f"http://127.0.0.1:{ports[0]}"
        assert reload(PUSHED.format(port=ports[0], idle="30m", tokens=9)) is first
        moved = PUSHED.format(port=ports[1], idle="30m", tokens=9)
        assert reload(moved) is first
        assert endpoint_of(running) == f"http://127.0.0.1:{ports[1]}"
        beside = moved.replace(
            "source: {", 'source: {scrape: {targets: ["http://127.0.0.1:1/metrics"]}, '
        )
        assert reload(beside) is first
        assert reload(beside.replace("30m", "10m")) is not first
        assert reload(FILE.format(**DEFAULTS)) is None
        assert endpoint_of(running) == ""
        await running.receiver.close()

    asyncio.run(scene())


def test_an_address_that_is_taken_leaves_the_receiver_where_it_is(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so."""

    async def scene() -> None:
        port = free_port()
        running.file.write_text(PUSHED.format(port=port, idle="30m", tokens=5))
        running.reloader.reload()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            other = taken.getsockname()[1]
            running.file.write_text(PUSHED.format(port=other, idle="30m", tokens=5))
            running.reloader.reload()
        assert endpoint_of(running) == f"http://127.0.0.1:{port}"
        assert "the receiver stays where it was" in caplog.text
        await running.receiver.close()

    asyncio.run(scene())
