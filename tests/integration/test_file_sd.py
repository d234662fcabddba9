"""Targets from files, as Prometheus reads them: found, followed, and kept when a file goes bad."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.presets import loader
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from tests.support.exposition import Exposition, line, page, serve


@pytest.fixture
def endpoint() -> Iterator[Exposition]:
    """An endpoint with one session."""
    with serve() as exposition:
        exposition.show(page(line(semconv.SESSION_TOKENS, 5, "run-1")))
        yield exposition


class Looking:
    """A scrape source, read once for each step of a test."""

    def __init__(self, folder: Path, *targets: ScrapeTarget) -> None:
        """Look at all JSON and YAML files of a folder."""
        patterns = [str(folder / f"*.{suffix}") for suffix in ("json", "yml", "yaml")]
        self.source = ScrapeSource(ScrapeSettings(targets, patterns, timeout=5), time.time)

    def read(self) -> Observation:
        """Return one reading."""

        async def reading() -> Observation:
            try:
                return await self.source.read()
            finally:
                await self.source.close()

        return asyncio.run(reading())


def write(path: Path, text: str) -> None:
    """Replace a file as a careful writer does."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def groups(*targets: str, **labels: str) -> str:
    """Return the content of a file with one target group."""
    return json.dumps([{"targets": targets, "labels": labels}])


@pytest.mark.parametrize("name", ["targets.json", "targets.yml", "targets.yaml"])
def test_a_file_brings_targets(endpoint: Exposition, tmp_path: Path, name: str) -> None:
    """JSON and YAML alike; a file that appears later is found."""
    looking = Looking(tmp_path)
    assert looking.read().sessions == ()
    write(tmp_path / name, groups(endpoint.address, job="agents"))
    reading = looking.read()
    assert [session.target for session in reading.sessions] == [endpoint.url]
    assert reading.problems == ()
    assert "authorization" not in {name.lower() for name in endpoint.headers}


def test_a_target_named_in_several_places_is_scraped_once(
    endpoint: Exposition, tmp_path: Path
) -> None:
    """Static, and in two files."""
    write(tmp_path / "a.json", groups(endpoint.address, endpoint.address))
    write(tmp_path / "b.json", groups(endpoint.address))
    endpoint.show(endpoint.text)
    assert len(Looking(tmp_path, ScrapeTarget(endpoint.url)).read().sessions) == 1
    with pytest.raises(TimeoutError):
        endpoint.wait_until_asked(2, patience=0)


def test_a_change_is_followed(endpoint: Exposition, tmp_path: Path) -> None:
    """Also one that keeps size and time of change: the file is another one."""
    file = tmp_path / "targets.json"
    port = endpoint.address.partition(":")[2]
    write(file, groups(f"127.0.0.2:{port}"))
    stat = file.stat()
    looking = Looking(tmp_path)
    assert looking.read().sessions == ()
    write(file, groups(endpoint.address))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(looking.read().sessions) == 1


def test_a_file_that_is_gone_takes_its_targets_along(endpoint: Exposition, tmp_path: Path) -> None:
    """Whoever removes it means it."""
    file = tmp_path / "targets.json"
    write(file, groups(endpoint.address))
    looking = Looking(tmp_path)
    assert len(looking.read().sessions) == 1
    file.unlink()
    reading = looking.read()
    assert (reading.sessions, reading.problems) == ((), ())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[{", "is not JSON"),
        ("{}", "not a list of target groups"),
        ('[{"target": []}]', "target group 0 is not a mapping with a list of targets"),
        (groups("http://127.0.0.1:1/metrics"), "is not host:port"),
        (groups("127.0.0.1:1", __scheme__="ftp"), "__scheme__ is 'ftp'; allowed: http, https"),
        (groups("127.0.0.1:1", __metrics_path__="x"), "it must begin with '/'"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_bad_file_keeps_its_last_good_targets_and_says_so(
    endpoint: Exposition, tmp_path: Path, content: str, words: str
) -> None:
    """As long as it is bad, and until it is good again."""
    file = tmp_path / "targets.json"
    write(file, groups(endpoint.address))
    looking = Looking(tmp_path)
    assert looking.read().problems == ()
    write(file, content)
    for _ in range(2):
        reading = looking.read()
        assert len(reading.sessions) == 1
        (problem,) = reading.problems
        assert problem.target == str(file)
        assert words in problem.detail
    write(file, groups(endpoint.address))
    assert looking.read().problems == ()


@pytest.mark.parametrize(
    "target",
    [
        "169.254.169.254", "169.254.169.254:80", "[fe80::1%1]:80", "[fe80::1]",
        "[::ffff:169.254.169.254]:80", "0xa9fea9fe", "169.254.43518:80", "2852039166",
    ],
)  # fmt: skip
def test_an_address_at_which_clouds_tell_credentials_is_not_asked(
    tmp_path: Path, target: str
) -> None:
    """Whoever may write an entry is not to have the sidecar ask there, in whatever form."""
    write(tmp_path / "a.json", groups(target, __metrics_path__="/latest"))
    (problem,) = Looking(tmp_path).read().problems
    assert problem.target == str(tmp_path / "a.json")
    assert "is a link-local address" in problem.detail


@pytest.mark.parametrize(
    ("hosts", "times", "words"),
    [
        (10_000, 100, "names more than 100,000 targets"),
        (1, 200_000, "is larger than 1,000,000 bytes; JSON may be larger"),
    ],
)
def test_a_file_that_names_very_many_targets_in_few_lines_is_refused(
    tmp_path: Path, hosts: int, times: int, words: str
) -> None:
    """By aliases; before anything is made of it."""
    named = ", ".join(f"h{n}" for n in range(hosts))
    text = f"- &a {{targets: [{named}]}}\n" + "- *a\n" * times
    write(tmp_path / "a.yaml", text)
    (problem,) = Looking(tmp_path).read().problems
    assert f"a.yaml: {words}" in problem.detail


def test_scheme_and_path_of_a_target_group_are_honoured(
    endpoint: Exposition, tmp_path: Path
) -> None:
    """The path leads elsewhere on the same endpoint; https meets a server that speaks http."""
    labels = {"__metrics_path__": "/other"}
    write(tmp_path / "a.json", groups(endpoint.address, **labels))
    write(tmp_path / "b.json", groups(endpoint.address, __scheme__="https"))
    reading = Looking(tmp_path).read()
    assert [s.target for s in reading.sessions] == [f"http://{endpoint.address}/other"]
    assert [p.target for p in reading.problems] == [f"https://{endpoint.address}/metrics"]


def test_a_folder_that_cannot_be_listed_says_nothing_about_what_is_gone(tmp_path: Path) -> None:
    """A mount that is away must not look like processes that have all ended in order."""
    folder = tmp_path / "targets"
    folder.mkdir()
    looking = Looking(folder)
    assert looking.read().targets == frozenset()
    folder.rmdir()
    assert looking.read().targets is None


def test_a_group_binds_its_targets_to_session_ids(endpoint: Exposition, tmp_path: Path) -> None:
    """In one spelling or another; what is no pattern makes the file bad, and the last one stays."""
    looking = Looking(tmp_path)
    path = tmp_path / "targets.json"
    write(path, groups(endpoint.address, __otel_budget_sessions__="run-1, team-a.*"))
    bound = looking.read().bindings
    assert bound is not None
    assert bound.owners == {"run-1": {endpoint.url}, "team-a.*": {endpoint.url}}
    write(path, groups(endpoint.address, __otel_budget_sessions__="team-.*-a"))
    reading = looking.read()
    assert reading.bindings == bound
    assert "__otel_budget_sessions__" in reading.problems[0].detail
    write(path, groups(endpoint.address))
    bound = looking.read().bindings
    assert bound is not None
    assert not bound


def test_a_list_takes_nothing_that_the_configuration_binds(
    endpoint: Exposition, tmp_path: Path
) -> None:
    """Who may write the file may bind what is left, and a run named after its target is bound."""
    vllm = loader.preset("vllm")
    own = ScrapeTarget("http://127.0.0.1:1/metrics", sessions=["team-a.*"])
    foreign = ScrapeTarget("http://127.0.0.1:2/metrics", preset=vllm)
    looking = Looking(tmp_path, own, foreign)
    ids = "team-a.1, vllm@127.0.0.1:2, vllm@*, team-b.*"
    write(tmp_path / "targets.json", groups(endpoint.address, __otel_budget_sessions__=ids))
    bound = looking.read().bindings
    assert bound is not None
    assert bound.owners == {
        "team-a.*": {own.url},
        "vllm@127.0.0.1:2": {foreign.url},
        "vllm@*": {endpoint.url},
        "team-b.*": {endpoint.url},
    }
