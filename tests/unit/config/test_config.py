"""The sidecar's configuration: what may stand in it, and how the rest is refused."""

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from otel_budget.config.flags import FLAGS
from otel_budget.config.load import from_flags, load
from otel_budget.config.schema import SidecarConfig
from otel_budget.config.sources import ScrapeConfig
from otel_budget.core.reasons import Action
from otel_budget.errors import ConfigFileError, InvalidConfigError
from otel_budget.presets.loader import shipped
from otel_budget.sidecar.config_summary import summary, warnings
from otel_budget.sidecar.factory import rules_of, scrape_settings
from tests.support.paths import TESTS

BAD = sorted((TESTS / "cases" / "config_bad").glob("*.yaml"))

#: All of section 6 of the design, as it stands there.
WHOLE = """\
source:
  scrape:
    targets: ["http://127.0.0.1:9464/metrics", {url: "https://a/metrics", bearer_token_file: t}]
    file_sd: ["targets/*.json"]
    interval: 1s
    timeout: 500ms
    body_size_limit: 50MB
    sample_limit: 500000
resource_limits: {max_tokens: 2000000}
verdicts: {lease: 15s, stale_after: auto, hold: 5m, on_no_data: stop, forget_after: 1h}
listen: {address: "127.0.0.1:9465"}
storage: {path: ./otel-budget.db}
budgets: []
"""
SMALL = 'source: {scrape: {targets: ["http://127.0.0.1:9464/metrics"]}}\n'


def write(folder: Path, text: str) -> Path:
    """Write a configuration file."""
    path = folder / "sidecar.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str) -> SidecarConfig:
    """Write a configuration file and load it."""
    return load(write(folder, text))


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_configuration_is_refused_with_file_line_and_key(path: Path) -> None:
    """Each file is wrong in the one thing it is named after; its first line says what is said."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    line, _, message = first.removeprefix("# want: ").partition(": ")
    where = f"{path}:{line}" if line.strip(":") else str(path)
    with pytest.raises(InvalidConfigError) as refused:
        load(path)
    assert str(refused.value) == f"{where}: {message.removeprefix(': ')}"
    assert "hunter2" not in str(refused.value)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    """Nobody wants to be sent back three times."""
    text = SMALL + "verdicts: {lease: x}\nlisten: {adress: y}\nbudgets: 1\n"
    with pytest.raises(InvalidConfigError) as refused:
        read(tmp_path, text)
    problems = {problem.key: problem.where for problem in refused.value.problems}
    file = tmp_path / "sidecar.yaml"
    assert problems == {
        "verdicts.lease": f"{file}:2",
        "listen.adress": f"{file}:3",
        "budgets": f"{file}:4",
    }
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize("text", ["a: [", "- a\n", "\0"])
def test_a_file_that_is_no_yaml_mapping_is_refused_as_a_whole(tmp_path: Path, text: str) -> None:
    """With its path."""
    with pytest.raises(ConfigFileError, match=r"sidecar\.yaml"):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_refused_with_its_path(tmp_path: Path) -> None:
    """And with what the system said."""
    with pytest.raises(ConfigFileError, match=r"nothing\.yaml: cannot be read"):
        load(tmp_path / "nothing.yaml")


def test_the_configuration_of_the_design_is_read(tmp_path: Path) -> None:
    """Every key of it."""
    config = read(tmp_path, WHOLE)
    scrape = config.source.scrape
    assert scrape is not None
    assert [target.url for target in scrape.targets] == [
        "http://127.0.0.1:9464/metrics",
        "https://a/metrics",
    ]
    assert scrape.targets[1].bearer_token_file == tmp_path / "t"
    assert scrape.file_sd == (str(tmp_path / "targets/*.json"),)
    assert (scrape.interval, scrape.timeout) == (1.0, 0.5)
    assert (scrape.body_size_limit, scrape.sample_limit) == (50_000_000, 500_000)
    assert config.resource_limits.max_tokens == 2_000_000
    assert config.resource_limits.max_api_calls is None
    verdicts = config.verdicts
    assert (verdicts.lease, verdicts.stale_after, verdicts.hold) == (15.0, None, 300.0)
    assert (verdicts.on_no_data, verdicts.forget_after) == (Action.STOP, 3600.0)
    assert (config.listen.host, config.listen.port) == ("127.0.0.1", 9465)
    assert config.storage.path == tmp_path / "otel-budget.db"
    assert config.budgets == ()


def test_the_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    """What is left out, or left empty, is as if it stood there."""
    empty = "resource_limits:\nverdicts:\nlisten:\nstorage:\nbudgets:\n"
    small = read(tmp_path, SMALL)
    whole = WHOLE.replace("500ms", "1s").replace("2000000", "null")
    assert read(tmp_path, SMALL + empty) == small
    assert read(tmp_path, whole).revision == small.revision
    assert read(tmp_path, whole).source.scrape != small.source.scrape
    assert small.model_dump(exclude={"source"}) == read(tmp_path, whole).model_dump(
        exclude={"source"}
    )


def test_a_prometheus_source_is_read(tmp_path: Path) -> None:
    """With its defaults, matchers and credentials."""
    config = read(
        tmp_path,
        """\
source:
  prometheus:
    url: "http://prometheus:9090"
    matchers: ['job="agents"', 'env!~"dev|te\\"st"']
    bearer_token_file: /run/token
    headers: {X-Scope-OrgID: team-a}
""",
    )
    prometheus = config.source.prometheus
    assert prometheus is not None
    assert (prometheus.interval, prometheus.timeout) == (5.0, 10.0)
    assert prometheus.matchers == ('job="agents"', 'env!~"dev|te\\"st"')
    assert prometheus.bearer_token_file == Path("/run/token")
    assert prometheus.headers == {"X-Scope-OrgID": "team-a"}
    assert "team-a" not in repr(config)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("500ms", 0.5), ("5m", 300.0), ("1h30m", 5400.0), ("1d", 86400.0), (2, 2.0),
     (0.25, 0.25), ("1.5h", 5400.0)],
)  # fmt: skip
def test_durations_are_read_as_seconds(text: str | float, seconds: float) -> None:
    """With a unit, or as a plain number."""
    config = from_flags({"--target": ["http://a/metrics"], "--interval": text})
    assert config.source.scrape is not None
    assert config.source.scrape.interval == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("50MB", 50_000_000), ("64KiB", 65_536), ("1 GiB", 2**30), ("1000", 1000), ("0.5kB", 500)],
)
def test_sizes_are_read_as_bytes(tmp_path: Path, text: str, size: int) -> None:
    """Powers of ten, or of two."""
    scrape = read(tmp_path, SMALL.replace("}}", f", body_size_limit: {text}}}}}")).source.scrape
    assert scrape is not None
    assert scrape.body_size_limit == size


def test_an_answer_of_a_prometheus_may_be_larger_than_a_page(tmp_path: Path) -> None:
    """It has all runs, a page those of one target."""
    base = 'source: {prometheus: {url: "http://127.0.0.1:9090"%s}}\n'
    for more, size in (("", 200_000_000), (", body_size_limit: 1GB", 10**9)):
        config = read(tmp_path, base % more).source.prometheus
        assert config is not None
        assert config.body_size_limit == size


def test_money_is_exact_and_a_limit_of_0_is_one(tmp_path: Path) -> None:
    """0.1 is a tenth; 0 permits nothing; null is no ceiling."""
    text = SMALL + "resource_limits: {max_cost_usd: 0.1, max_tokens: 0, max_api_calls: null}\n"
    limits = read(tmp_path, text).resource_limits
    assert limits.max_cost_usd == Decimal("0.1")
    assert (limits.max_tokens, limits.max_api_calls) == (0, None)


def test_an_ipv6_address_stands_in_brackets(tmp_path: Path) -> None:
    """And is given without them."""
    listen = read(tmp_path, SMALL + 'listen: {address: "[::1]:0"}\n').listen
    assert (listen.host, listen.port) == ("::1", 0)


def test_a_configuration_does_not_change() -> None:
    """It is swapped as a whole, or not at all."""
    config = from_flags({"--target": ["http://a/metrics"]})
    with pytest.raises(ValidationError, match="frozen"):
        config.storage = config.storage


def test_flags_alone_make_a_configuration() -> None:
    """Paths are taken as they are: relative to where the command runs."""
    config = from_flags(
        {
            "--prometheus": "http://prometheus:9090",
            "--max-tokens": 5,
            "--max-api-calls": 6,
            "--max-cost-usd": Decimal("1.5"),
            "--max-duration-seconds": 7,
            "--listen": "127.0.0.1:0",
            "--storage": "here.db",
            "--interval": "2s",
        }
    )
    limits = config.resource_limits
    assert config.source.prometheus is not None
    assert config.source.prometheus.interval == 2.0
    assert (limits.max_tokens, limits.max_api_calls) == (5, 6)
    assert (limits.max_cost_usd, limits.max_duration_seconds) == (Decimal("1.5"), 7.0)
    assert (config.listen.port, config.storage.path) == (0, Path("here.db"))


def test_a_preset_is_for_all_targets_that_name_none() -> None:
    """On a Prometheus it is the source's; without one the program of a target is recognised."""
    config = from_flags({"--target": ["http://a/metrics"], "--preset": "vllm"})
    assert [preset.name for preset in config.source.presets()] == ["vllm"]
    assert config.source.describe().endswith("(preset vllm) every 1 s")
    through = from_flags({"--prometheus": "http://a", "--preset": "vllm"})
    assert [preset.name for preset in through.source.presets()] == ["vllm"]
    target: dict[str, object] = {"--target": ["http://a/metrics"]}
    for given in (target, {**target, "--preset": "otel_budget"}):
        assert not from_flags(given).source.presets()


def test_a_preset_that_there_is_not_is_refused_with_those_there_are() -> None:
    """And with the one that was probably meant."""
    with pytest.raises(InvalidConfigError, match=r"--preset: there is no preset 'cloude_code'"):
        from_flags({"--target": ["http://a/metrics"], "--preset": "cloude_code"})


def test_a_scrape_is_made_with_the_presets_of_its_configuration(tmp_path: Path) -> None:
    """Those of single targets go first; a list of targets may name the user's own."""
    file = tmp_path / "sidecar.yaml"
    file.write_text(
        "presets: {mine: {extends: kong_ai, session: {labels: [consumer]}}}\n"
        "source:\n  scrape:\n    preset: vllm\n    file_sd: ['a.json']\n    targets:\n"
        "      - http://a/metrics\n      - {url: 'http://b/metrics', preset: otel_budget}\n"
        "      - {url: 'http://c/metrics', preset: mine}\n"
    )
    chosen = load(file).source.polled
    assert isinstance(chosen, ScrapeConfig)
    settings = scrape_settings(chosen)
    read_by = [(each.preset and each.preset.metrics, each.recognises) for each in settings.targets]
    vllm, kong = shipped()["vllm"].metrics, shipped()["kong_ai"].metrics
    assert read_by == [(vllm, False), (None, False), (kong, False)]
    assert settings.file_sd_preset == shipped()["vllm"]
    mine = settings.presets["mine"]
    assert mine is not None
    assert mine.session_labels == ("consumer",)
    assert settings.presets["otel_budget"] is None


def test_a_bad_flag_is_refused_with_its_name() -> None:
    """Not with the key it would have in a file."""
    with pytest.raises(InvalidConfigError) as refused:
        from_flags(
            {"--target": ["http://a/metrics", "b"], "--max-tokens": -1, "--listen": "nowhere"}
        )
    keys = [problem.key for problem in refused.value.problems]
    assert keys == ["--target", "--max-tokens", "--listen"]


def test_no_source_at_all_names_the_flags_that_give_one() -> None:
    """As does giving two."""
    with pytest.raises(InvalidConfigError) as none:
        from_flags({})
    assert str(none.value) == "give one of --target/--file-sd, --prometheus, --otlp"
    with pytest.raises(InvalidConfigError) as both:
        from_flags({"--file-sd": ["a.json"], "--prometheus": "http://b"})
    assert str(both.value) == "give one of --target/--file-sd, --prometheus, not both"


def test_messages_about_flags_speak_of_flags() -> None:
    """There is no null on a command line, and no key beside a URL."""
    with pytest.raises(InvalidConfigError) as refused:
        from_flags({"--prometheus": "http://me:secret@b", "--max-tokens": -1})
    said = str(refused.value)
    assert "null" not in said
    assert "secret" not in said
    assert "put them into a configuration file" in said
    with pytest.raises(InvalidConfigError) as open_to_all:
        from_flags({"--target": ["http://a/metrics"], "--listen": "0.0.0.0:1"})
    assert str(open_to_all.value) == (
        "--listen: other hosts may reach 0.0.0.0:1, and nothing asks who they are: give "
        "--read-token-file, or, if you want that, --allow-unauthenticated"
    )


@pytest.mark.parametrize("flag", FLAGS)
def test_what_is_wrong_with_a_key_is_said_of_its_flag(flag: str) -> None:
    """Each stands for keys that there are, and is named when its value is refused."""
    source = {"--prometheus": "http://b"} if flag == "--prometheus" else {"--target": ["http://a"]}
    with pytest.raises(InvalidConfigError) as refused:
        from_flags({**source, flag: [object()] if FLAGS[flag].repeated else object()})
    assert [problem.key for problem in refused.value.problems] == [flag]
    assert "no key here" not in str(refused.value)


@pytest.mark.parametrize("source", [{"--target": ["http://a"]}, {"--prometheus": "http://b"}])
def test_a_flag_of_either_source_goes_to_the_one_there_is(source: dict[str, object]) -> None:
    """An interval alone begins no section."""
    config = from_flags({"--interval": "7s", **source}).source
    (given,) = [one for one in (config.scrape, config.prometheus) if one is not None]
    assert given.interval == 7.0


@pytest.mark.parametrize(("flag", "value"), [("--preset", "nope"), ("--interval", "7s")])
def test_a_flag_about_what_is_read_is_refused_where_nothing_is(flag: str, value: str) -> None:
    """It would be taken for heeded."""
    with pytest.raises(InvalidConfigError, match=f"{flag}: it is about what is read"):
        from_flags({"--otlp": "127.0.0.1:4318", flag: value})


@pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), ("0.5", 0.5), ("2m", 120.0)])
def test_a_flag_without_a_unit_is_seconds_as_in_a_file(text: str, seconds: float) -> None:
    """Both times there are."""
    config = from_flags({"--target": ["http://a/metrics"], "--interval": text, "--lease": text})
    assert config.source.scrape is not None
    assert (config.source.scrape.interval, config.verdicts.lease) == (seconds, seconds)


@pytest.mark.parametrize("text", ["0", "-5", "nan", "5 s", "1e3", ""])
def test_a_flag_that_is_no_time_is_refused_by_its_name(text: str) -> None:
    """Zero seconds are no interval."""
    with pytest.raises(InvalidConfigError, match=r"^--interval: .*a duration above 0"):
        from_flags({"--target": ["http://a/metrics"], "--interval": text})


def test_two_sources_are_named_along_with_what_is_wrong_in_them(tmp_path: Path) -> None:
    """Not in the next round."""
    text = """\
source:
  scrape: {targets: ["nowhere"]}
  prometheus: {url: "http://b", intervall: 1s}
verdicts: {lease: x}
"""
    with pytest.raises(InvalidConfigError) as refused:
        read(tmp_path, text)
    assert [(p.key, p.where.rpartition(":")[2]) for p in refused.value.problems] == [
        ("source", "1"),
        ("source.scrape.targets[0].url", "2"),
        ("source.prometheus.intervall", "3"),
        ("verdicts.lease", "4"),
    ]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere/x.db", "there is no folder"),
        ("sidecar.yaml/x.db", "there is no folder"),
        ("folder", "is not a file"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_if_asked_with_the_rest(
    tmp_path: Path, path: str, said: str
) -> None:
    """With its line, and without making anything."""
    (tmp_path / "folder").mkdir()
    file = write(tmp_path, SMALL + f"verdicts: {{lease: x}}\nstorage: {{path: {path}}}\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InvalidConfigError) as refused:
        load(file, check_storage=True)
    assert [p.where for p in refused.value.problems] == [f"{file}:2", f"{file}:3"]
    assert said in str(refused.value.problems[1])
    assert sorted(tmp_path.iterdir()) == before


def test_a_storage_that_may_not_be_written_is_refused_also_where_it_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder first, then the file; a file that is not there yet is none of the two."""
    file = write(tmp_path, SMALL)
    assert load(file, check_storage=True).storage.path == tmp_path / "otel-budget.db"
    assert not (tmp_path / "otel-budget.db").exists()
    (tmp_path / "otel-budget.db").touch()
    load(file, check_storage=True)
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path).is_dir())
    with pytest.raises(InvalidConfigError, match="db cannot be read and written"):
        load(file, check_storage=True)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InvalidConfigError, match=r"the folder .* cannot be written to"):
        load(file, check_storage=True)
    load(file)  # a reload keeps the storage it has


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        *(("127.0.0.1:1", "no"), ("127.9.9.9:1", "no"), ("[::1]:1", "no"), ("localhost:1", "no")),
        *(("0.0.0.0:1", "yes"), ("[::]:1", "yes"), ("10.0.0.1:1", "yes"), ("a.example:1", "yes")),
    ],
)
def test_an_address_tells_whether_others_reach_it(address: str, reached: str) -> None:
    """A name is taken to be reached by others."""
    listen = from_flags(
        {"--target": ["http://a/metrics"], "--listen": address, "--allow-unauthenticated": True}
    ).listen
    assert listen.is_loopback == (reached == "no")


def test_the_revision_names_the_policy_and_nothing_else() -> None:
    """Where samples come from and verdicts go is no policy, nor is how a number is written."""
    one = from_flags({"--target": ["http://a/metrics"], "--max-cost-usd": Decimal("5.00")})
    same = from_flags({"--prometheus": "http://b", "--max-cost-usd": 5, "--listen": "127.0.0.1:1"})
    other = from_flags({"--target": ["http://a/metrics"], "--max-cost-usd": Decimal("5.01")})
    assert one.revision == same.revision != other.revision
    assert len(one.revision) == 12


def test_settings_that_would_disarm_one_another_are_said(tmp_path: Path) -> None:
    """What is forgotten too soon is kept; what is stale too soon is for the user to mend."""
    source = 'source: {scrape: {targets: ["http://127.0.0.1:9464/metrics"], interval: 2s}}\n'
    quiet = read(tmp_path, f"{source}verdicts: {{hold: 2h}}\n")
    assert warnings(quiet) == ()
    odd = "verdicts: {forget_after: 4s, hold: 8s, stale_after: 500ms}\n"
    forgotten, stale = warnings(read(tmp_path, source + odd))
    assert "forget_after (4 s) is no longer than hold and stale_after" in forgotten
    assert "stale_after (0.5 s) is shorter than the interval of the source (2 s)" in stale


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ("true", True),
        ("false", False),
        ("[]", frozenset()),
        ("[b, a, b]", frozenset({"a", "b"})),
    ],
)
def test_whose_own_limits_an_operator_may_replace_is_policy(
    tmp_path: Path,
    given: str,
    read_as: bool | frozenset[str],  # noqa: FBT001 - as the file has it
) -> None:
    """Its revision names it; in whatever order the workflows stand, and said before it runs."""
    file = tmp_path / "sidecar.yaml"
    source = 'source: {scrape: {targets: ["http://a/metrics"]}}\n'
    file.write_text(source)
    before = load(file)
    file.write_text(f"{source}limits_from_outside: {given}\n")
    config = load(file)
    assert rules_of(config).limits_from_outside == (read_as or frozenset())
    assert (config.revision == before.revision) == (not read_as)
    assert any("outside" in line_said for line_said in summary(config)) == bool(read_as)
