"""``serve_metrics``: where it listens, what it refuses, and that it lets go of everything."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from otel_budget import ResourceMonitor, serve_metrics
from otel_budget.errors import InvalidValueError, ListenError
from otel_budget.sdk.lifecycle.at_exit import AT_EXIT
from otel_budget.sdk.metrics.collector import RUNS
from tests.support.ports import free_port


@pytest.fixture(autouse=True)
def nobody_scrapes() -> Iterator[None]:
    """Forget a test's scrapes: the next one's runs would wait for more of them."""
    yield
    RUNS._scrapers.clear()


#: A process id that no system gives out.
DEAD = 2**22 + 1


def scraped(url: str) -> str:
    """Return what an endpoint shows."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: bytes = answer.read()
    return found.decode()


def listening(port: int) -> bool:
    """Tell whether somebody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_endpoint_shows_the_runs_of_the_process_until_it_is_closed() -> None:
    """On a free port, and twice closed is closed; another may be open beside it."""
    with ResourceMonitor(session_id="shown") as monitor, serve_metrics("127.0.0.1", 0) as one:
        monitor.record_operation(3)
        with serve_metrics("127.0.0.1", 0) as other:
            assert one.port != other.port
            assert scraped(one.url).count('otel_budget_tokens_total{session_id="shown"} 3.0') == 1
            assert 'session_id="shown"' in scraped(other.url)
        other.close()
        assert not listening(other.port)
        assert listening(one.port)
        RUNS._scrapers.clear()
    assert not any(thread.name == "otel-budget-metrics" for thread in threading.enumerate())


def test_the_environment_says_where_unless_the_caller_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host and port each."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    with serve_metrics() as endpoint:
        assert endpoint.url == f"http://127.0.0.1:{endpoint.port}/metrics"
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "9464x")
    with pytest.raises(InvalidValueError, match="OTEL_EXPORTER_PROMETHEUS_PORT: '9464x'"):
        serve_metrics()
    with serve_metrics("localhost", 0) as endpoint:
        assert endpoint.url.startswith("http://localhost:")


@pytest.mark.parametrize("port", [-1, 65536, "x", 1.5, True])
def test_a_port_that_is_none_is_refused(port: object) -> None:
    """With what is allowed."""
    with pytest.raises(InvalidValueError, match=r"port: .* allowed: a port from 0 to 65535"):
        serve_metrics("127.0.0.1", port)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["256.0.0.1", "a..b", "x" * 300, "192.0.2.1", "no.such.host"])
def test_an_address_that_is_not_this_hosts_is_an_error_that_says_so(address: str) -> None:
    """Another port would not help."""
    with pytest.raises(ListenError, match="cannot listen on") as caught:
        serve_metrics(address, 0)
    assert "not an address of this host" in str(caught.value)
    assert "another port" not in str(caught.value)


def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    """Another port would help."""
    with (
        serve_metrics("127.0.0.1", 0) as taken,
        pytest.raises(ListenError, match="choose another port"),
    ):
        serve_metrics("127.0.0.1", taken.port)


def test_all_interfaces_are_registered_by_an_address_that_can_be_reached(tmp_path: Path) -> None:
    """Whoever reads the entry is on this host."""
    with serve_metrics("0.0.0.0", 0, register=tmp_path / "sd") as endpoint:  # noqa: S104 - the case
        (entry,) = (tmp_path / "sd").iterdir()
        assert json.loads(entry.read_text())[0]["targets"] == [f"127.0.0.1:{endpoint.port}"]
    assert list((tmp_path / "sd").iterdir()) == []


def test_an_entry_of_a_living_process_or_of_somebody_else_stays(tmp_path: Path) -> None:
    """Only those of dead ones go, of this host and this container: ids mean nothing elsewhere."""
    here = f"{socket.gethostname()}-pidns{Path('/proc/self/ns/pid').stat().st_ino}"
    living = tmp_path / f"otel-budget-{here}-{os.getpid()}-1.json"
    others = [tmp_path / name for name in ("otel-budget-elsewhere-1-1.json", "mine.json",
                                           f"otel-budget-{here}-x-1.json",
                                           f"otel-budget-{socket.gethostname()}-pidns1-{DEAD}-1.json",
                                           f"otel-budget-{socket.gethostname()}-{DEAD}-1.json",
                                           )]  # fmt: skip
    huge = tmp_path / f"otel-budget-{here}-{10**30}-1.json"
    dead = tmp_path / f"otel-budget-{here}-{DEAD}-1.json"
    for path in (living, huge, dead, *others):
        path.write_text("[]")
    with serve_metrics("127.0.0.1", 0, register=tmp_path):
        assert not huge.exists()
        assert not dead.exists()
        kept = tmp_path / f"otel-budget-{here}-dead-{DEAD}-1.json"
        assert kept.exists(), "that its target gives nothing says that it was killed"
        os.utime(kept, (time.time() - 301,) * 2)
        with serve_metrics("127.0.0.1", 0, register=tmp_path):
            assert not kept.exists()
    assert all(path.exists() for path in (living, *others))


@pytest.mark.parametrize("refused", ["glob", "unlink"])
def test_a_folder_that_cannot_be_tidied_up_takes_an_entry_all_the_same(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not be listed, or a dead process's entry may be another user's, as in /tmp."""
    here = f"{socket.gethostname()}-pidns{Path('/proc/self/ns/pid').stat().st_ino}"
    dead = tmp_path / f"otel-budget-{here}-{DEAD}-1.json"
    dead.write_text("[]")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, refused, refuse)
        endpoint = serve_metrics("127.0.0.1", 0, register=tmp_path)
    with endpoint:
        assert len(list(tmp_path.iterdir())) == 2


def test_the_port_opens_without_asking_the_name_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container without one it would hold up the start by many seconds."""

    def asked(*_: object) -> str:
        raise AssertionError("asked for the host's full name")

    monkeypatch.setattr(socket, "getfqdn", asked)
    with serve_metrics("0.0.0.0", 0) as endpoint:  # noqa: S104 - the case
        assert endpoint.port


def test_an_entry_is_written_through_no_link_that_somebody_laid(tmp_path: Path) -> None:
    """The folder may be anybody's to write to; what the link names may be only ours."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "sd"
    port = free_port()
    with serve_metrics("127.0.0.1", port, register=folder):
        (entry,) = folder.iterdir()
    for name in (entry, entry.with_suffix(".tmp")):
        name.symlink_to(precious)
    with serve_metrics("127.0.0.1", port, register=folder):
        assert precious.read_text() == "mine"
        assert not entry.is_symlink()
        assert entry.stat().st_mode & 0o444 == 0o444 & ~_umask(), "for Prometheus to read"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _listening() -> int:
    """Return how many sockets of this process listen."""
    found = 0
    for number in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as one:
            found += one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return found


def test_a_folder_that_cannot_be_registered_in_leaves_nothing_open(tmp_path: Path) -> None:
    """Neither a socket nor work for the interpreter's end."""
    (tmp_path / "file").write_text("")
    before, listening = dict(AT_EXIT.last), _listening()
    with pytest.raises(
        InvalidValueError, match=r"register: .*file' is not allowed; allowed: a folder"
    ):
        serve_metrics("127.0.0.1", 0, register=tmp_path / "file")
    gc.collect()
    assert AT_EXIT.last == before
    assert _listening() == listening, "threads of other tests may open files, and do not listen"


class Slow(Collector):
    """Metrics that take their time; says when it is asked, and waits to be let go."""

    def __init__(self) -> None:
        """Begin unasked."""
        self.asked, self.go_on = threading.Event(), threading.Event()

    def describe(self) -> list[object]:
        """Name nothing."""
        return []

    def collect(self) -> list[object]:  # type: ignore[override] # and nothing to show
        """Wait."""
        self.asked.set()
        self.go_on.wait(20)
        return []


def test_closing_lets_an_answer_that_is_under_way_go_out() -> None:
    """It may be the last scrape of the process, and what a run's end waited for."""
    slow, pages = Slow(), list[str]()
    endpoint = serve_metrics("127.0.0.1", 0)
    REGISTRY.register(slow)
    try:
        scraper = threading.Thread(target=lambda: pages.append(scraped(endpoint.url)))
        scraper.start()
        assert slow.asked.wait(20)
        closer = threading.Thread(target=endpoint.close)
        closer.start()
        closer.join(0.7)
        assert closer.is_alive()
        slow.go_on.set()
        closer.join(20)
        scraper.join(20)
    finally:
        REGISTRY.unregister(slow)
    assert "otel_budget_build_info" in pages[0]


def test_a_client_that_hangs_up_is_no_matter(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing of it on stderr, and the next one is served."""
    with serve_metrics("127.0.0.1", 0) as endpoint:
        for sent in (b"", b"GET /metrics HTTP/1.1\r\n\r\n", b"\xff\xfe\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", endpoint.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(sent)
        assert "otel_budget_build_info" in scraped(endpoint.url)
    assert capfd.readouterr().err == ""


def test_what_cannot_be_started_in_the_background_fails_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """No more threads to be had: it is said once, and the run and its limits go on."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    monitor = ResourceMonitor(None, "no-threads", tmp_path, sidecar="http://127.0.0.1:9")
    for _ in range(3):
        monitor.record_operation(5)
        assert monitor.should_continue()
    assert monitor.checkpoint() is not None
    monitor.close(timeout=0)
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [
        name for record in failures for name in ("begin", "_follow") if name in record.message
    ] == ["begin", "_follow"]
