"""The flags of ``otel-budget sidecar`` that stand for keys of a configuration file.

One table: a flag, the keys it stands for, and what ``--help`` says of it. The command takes its
arguments from it, ``load.from_flags`` makes sections of what was given, and what is wrong with a
key is said of its flag. A resource's row in ``core.resources`` is all that its flag needs. Nothing
of the extra is imported here.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from otel_budget.core.quantities import COUNT, MONEY, SECONDS
from otel_budget.core.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_budget.core.quantities import Quantity
    from otel_budget.files.yaml_file import KeyPath


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag."""

    name: str
    """With its dashes."""
    keys: tuple[str, ...]
    """What it stands for, as ``source.scrape.interval``; of several, those whose section is given
    by another flag."""
    help: str
    metavar: str | None = None
    """None: it takes no value, and is true."""
    read: Callable[[str], object] = str
    """Makes a value of what is typed."""
    repeated: bool = False
    """True if it may be given again, and is a list."""
    aliases: tuple[str, ...] = ()

    @property
    def dest(self) -> str:
        """Name of what ``argparse`` makes of it."""
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """The keys, taken apart."""
        return tuple(tuple(key.split(".")) for key in self.keys)

    def add_to(self, group: argparse._ArgumentGroup) -> None:
        """Add the argument; one that is not given is None."""
        options: dict[str, Any] = {"dest": self.dest, "help": self.help, "default": None}
        if self.metavar is None:
            options["action"] = "store_true"
        else:
            options |= {"metavar": self.metavar, "type": self.read}
            options |= {"action": "append"} if self.repeated else {}
        group.add_argument(self.name, *self.aliases, **options)


def _usd(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount such as 2.50") from exc


#: How an amount is written in a help, and read.
METAVARS: Final[Mapping[Quantity, str]] = {COUNT: "N", SECONDS: "SECONDS", MONEY: "USD"}
_READ: Final[Mapping[Quantity, Callable[[str], object]]] = {
    COUNT: int, SECONDS: float, MONEY: _usd
}  # fmt: skip
_ALIASES: Final = {"--max-duration-seconds": ("--max-duration",)}

#: By what ``--help`` says above them.
GROUPS: Final[Mapping[str, tuple[Flag, ...]]] = {
    "without a file: where samples come from (one source; --otlp alone or beside it)": (
        Flag("--target", ("source.scrape.targets",),
             "scrape this /metrics; may be repeated", "URL", repeated=True),
        Flag("--file-sd", ("source.scrape.file_sd",),
             "scrape the targets in these Prometheus file_sd files; may be repeated", "GLOB",
             repeated=True),
        Flag("--prometheus", ("source.prometheus.url",),
             "query this Prometheus, or another server with its API", "URL"),
        Flag("--otlp", ("source.otlp.address",),
             "receive what programs push by OTLP/HTTP on this address (127.0.0.1:4318)",
             "HOST:PORT"),
        Flag("--otlp-token-file", ("source.otlp.token_file",),
             "require one of the tokens in this file to push", "FILE"),
        Flag("--preset", ("source.scrape.preset", "source.prometheus.preset"),
             "read other programs by this preset, such as claude_code; otel_budget: read none. "
             "Without it a --target's program is recognised", "NAME"),
        Flag("--interval", ("source.scrape.interval", "source.prometheus.interval"),
             "time between readings: seconds, or for example 500ms", "TIME"),
    ),
    "without a file: ceilings for every run": tuple(
        Flag(row.flag, (f"resource_limits.{row.limit_key}",), row.about, METAVARS[row.quantity],
             _READ[row.quantity], aliases=_ALIASES.get(row.flag, ()))
        for row in RESOURCES.values()
    ),
    "without a file: other settings": (
        Flag("--lease", ("verdicts.lease",),
             "how long a verdict may be trusted: seconds, or for example 1m (15s)", "TIME"),
        Flag("--listen", ("listen.address",),
             "address to serve verdicts on (127.0.0.1:9465); port 0 picks a free one", "HOST:PORT"),
        Flag("--read-token-file", ("listen.read_token_file",),
             "require one of the tokens in this file to read verdicts", "FILE"),
        Flag("--admin-token-file", ("listen.admin_token_file",),
             "accept the tokens in this file to stop and limit runs", "FILE"),
        Flag("--allow-unauthenticated", ("listen.allow_unauthenticated",),
             "serve other hosts without asking who they are"),
        Flag("--storage", ("storage.path",),
             "SQLite file that keeps the ledger (./otel-budget.db)", "FILE"),
    ),
}  # fmt: skip
FLAGS: Final[Mapping[str, Flag]] = {flag.name: flag for group in GROUPS.values() for flag in group}


def as_sections(given: Mapping[str, object]) -> dict[str, Any]:
    """Return what a file would hold. given: flag, as ``--max-tokens``, to its value."""
    data: dict[str, Any] = {"source": {}}
    flags = sorted((FLAGS[name] for name in given), key=lambda flag: len(flag.keys))
    for flag in flags:
        for path in flag.paths:
            sections, key = path[:-1], path[-1]
            if len(flag.keys) == 1 or _has(data, sections):
                _section(data, sections)[key] = given[flag.name]
    return data


def unheeded(given: Mapping[str, object]) -> tuple[str, ...]:
    """Return flags that stand for no key, as no source is given that they are about."""
    data = as_sections(given)
    several = (FLAGS[name] for name in given if len(FLAGS[name].keys) > 1)
    return tuple(f.name for f in several if not any(_has(data, path) for path in f.paths))


def flag_of(path: KeyPath) -> str:
    """Return the flag that a key, or what is inside it, was given by; empty if there is none."""
    for flag in FLAGS.values():
        if any(path[: len(keys)] == keys for keys in flag.paths):
            return flag.name
    return ""


def _has(data: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    for key in path:
        if key not in data:
            return False
        data = data[key]
    return True


def _section(data: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path:
        data = data.setdefault(key, {})
    return data
