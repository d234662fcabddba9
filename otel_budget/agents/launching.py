"""What a program is started with so that its run is counted, and its hooks are asked.

Pure: from the user's own arguments and environment to those of the process. No file of the user's
is written; what a file says is read through what the caller hands in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

RESOURCE_ATTRIBUTES: Final = "OTEL_RESOURCE_ATTRIBUTES"
#: Stands in the command of the hooks that are installed: a run has them ask its own sidecar.
HOOK_VARIABLE: Final = "OTEL_BUDGET_HOOK_URL"
#: Begins the resource attributes that are ours: those of the user's by the same names are replaced.
OURS: Final = "otel_budget."
METRICS, LOGS = "metrics", "logs"
#: Milliseconds between two pushes of a program that lets it be said.
INTERVAL_MS: Final = 250
#: What stands in a resource attribute as it is; all else is percent-encoded.
_PLAIN: Final = "!#$&'()*+/:<>?@[]^`{|}~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be started."""

    arguments: tuple[str, ...]
    """After the program's name."""
    environ: Mapping[str, str]
    """The user's own."""
    receiver: str
    """Where OTLP is pushed to, as ``http://127.0.0.1:4318``."""
    hook_url: str
    """Where this agent's hooks are asked, with the run in it; empty: by the command alone."""
    hook_command: str
    """The same as a command line of a shell: input on stdin, answer on stdout."""
    run: str
    """Session id of the run."""
    attributes: Mapping[str, str]
    """Resource attributes: the run, and its own limits."""
    new_session: str = ""
    """A new UUID, for an agent that can be told which session it is to begin."""
    hooks: bool = True
    """Whether hooks are wanted."""
    trust_hooks: bool = False
    """Whether the user lets all hooks run that the agent was not told to trust."""
    on_terminal: bool = False
    """Whether stdin and stdout are a terminal."""
    read_file: Callable[[str], str] = lambda path: path
    """Returns the text of a file of the user's. Raises OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is started instead."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables on top of the user's own."""
    hooks: bool = False
    """Whether the agent asks hooks that can hold it."""
    hooks_end: bool = False
    """Whether these can also end it; else they can only deny it its tools."""
    hooks_count: bool = False
    """Whether these tell what a call used, long before the program pushes it, and its limits."""
    interactive: bool = False
    """Whether it is a program on the whole terminal, which the user talks to."""
    shows_reason: bool = True
    """Whether it says itself why its hooks ended it."""
    lag: float = 1.0
    """Seconds after which what a call has used has come in by every way."""
    notes: tuple[str, ...] = ()
    """What the user should know before it starts, for people."""
    resume: tuple[str, ...] = ()
    """Command line that takes its session up again; empty if it keeps none."""


class Launcher(Protocol):
    """The module ``launch`` of an agent's package."""

    PROGRAMS: tuple[str, ...]
    """Names by which it is started, without folder and suffix."""
    PACKAGES: tuple[str, ...]
    """Names of its packages, as in ``npx PACKAGE``; also found in the path of its script."""
    TITLE: str

    def launch(self, request: Request) -> Launch:
        """Return what is started. Raises InvalidValueError for what cannot be guarded."""


def merged_attributes(given: str, ours: Mapping[str, str]) -> str:
    """Return resource attributes as ``OTEL_RESOURCE_ATTRIBUTES`` has them: the user's, and ours."""
    kept = [
        pair.strip()
        for pair in given.split(",")
        if pair.strip() and not pair.strip().startswith(OURS)
    ]
    added = [f"{name}={quote(value, safe=_PLAIN)}" for name, value in ours.items()]
    return ",".join(kept + added)


def with_exporter(given: str | None) -> str:
    """Return the exporters of a signal with OTLP among them: those of the user's stay."""
    named = [name.strip() for name in (given or "").split(",")]
    kept = [name for name in named if name and name not in ("otlp", "none")]
    return ",".join([*kept, "otlp"])


def own_endpoints(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return where the user's own environment sends OTLP to."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", *_endpoint_names())
    return tuple(dict.fromkeys(environ[name] for name in names if environ.get(name)))


def otlp_environment(environ: Mapping[str, str], receiver: str) -> dict[str, str]:
    """Return what has an OpenTelemetry SDK push metrics and logs to the receiver.

    Traces go where they went: of the user's own endpoint only these two signals are taken away.
    """
    said = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": with_exporter(environ.get("OTEL_METRICS_EXPORTER")),
        "OTEL_LOGS_EXPORTER": with_exporter(environ.get("OTEL_LOGS_EXPORTER")),
        "OTEL_METRIC_EXPORT_INTERVAL": str(INTERVAL_MS),
        "OTEL_LOGS_EXPORT_INTERVAL": str(INTERVAL_MS),
        "OTEL_BLRP_SCHEDULE_DELAY": str(INTERVAL_MS),
    }
    if not own_endpoints(environ):
        return said | {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver}
    del said["OTEL_EXPORTER_OTLP_PROTOCOL"]
    for signal in (METRICS, LOGS):
        said |= {
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT": f"{receiver}/v1/{signal}",
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL": "http/protobuf",
        }
    return said


def endpoint_notes(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is to be said of an endpoint of the user's own."""
    return tuple(
        f"metrics and logs of this run go to otel-budget's receiver, not to {shown(endpoint)}"
        for endpoint in own_endpoints(environ)
    )


def shown(endpoint: str) -> str:
    """Return an address without a user and password in it."""
    scheme, separator, rest = endpoint.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def has_flag(arguments: Iterable[str], *names: str) -> bool:
    """Tell whether a flag is among the arguments, as it is or with ``=``; not past ``--``."""
    for argument in arguments:
        if argument == "--":
            return False
        if argument.partition("=")[0] in names:
            return True
    return False


def _endpoint_names() -> tuple[str, ...]:
    return tuple(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" for signal in (METRICS, LOGS))
