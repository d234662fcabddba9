"""The errors of the project: few, with fields, saying what was wrong and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class OtelBudgetError(Exception):
    """The base of every error this project raises. All of them can be pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from message and fields: the arguments of each kind differ from its message."""
        return _rebuilt, (type(self), self.args, self.__dict__)


class InvalidValueError(OtelBudgetError, ValueError):
    """Refuse a value: an argument, a configuration key, a field of a file.

    key: its name; empty if no single one is at fault. value: what was given. allowed: what may be
    given instead. where: the file and line it came from, if it came from a file, as ``path:line``.
    sentence: what is wrong in plain words, where no value is at fault: a key that is missing,
    unknown or repeated.
    """

    def __init__(
        self, key: str, value: object, allowed: str, *, where: str = "", sentence: str = ""
    ) -> None:
        """Keep the fields and build the message out of them."""
        self.key, self.value, self.allowed, self.where = key, value, allowed, where
        self.sentence = sentence
        try:
            shown = repr(value)
        except ValueError:  # an integer too long to be written out
            shown = f"{type(value).__name__} too long to print"
        if len(shown) > 200:  # noqa: PLR2004 - enough to recognise it, short enough for a log line
            shown = shown[:200] + "…"
        said = sentence or f"{shown} is not allowed; allowed: {allowed}"
        super().__init__(": ".join(part for part in (where, key, said) if part))


class CheckpointError(OtelBudgetError):
    """Refuse a checkpoint that cannot be read or trusted.

    path: the file. problem: what is wrong with it. previous: the next older checkpoint to resume
    from instead, or None.
    """

    def __init__(
        self, path: str, problem: str, previous: str | None = None, *, way_out: str = ""
    ) -> None:
        """Keep the fields and name the way out. way_out: where it is not the previous one."""
        self.path, self.problem, self.previous = path, problem, previous
        if previous:
            way_out = (
                f"the previous one is {previous}: pass checkpoint={previous!r} to resume from it"
            )
        way_out = way_out or "there is no earlier checkpoint"
        super().__init__(f"checkpoint {path}: {problem}; {way_out}")


class NoCheckpointError(CheckpointError):
    """Say that there is no run to resume: it never wrote a checkpoint here, or it completed."""


class RunCompletedError(NoCheckpointError):
    """Say that the run completed: there is nothing to resume, and a new one may begin.

    path: its last checkpoint. completed_at: Unix time.
    """

    def __init__(self, path: str, completed_at: float) -> None:
        """Keep the fields and name both ways on."""
        from datetime import UTC, datetime

        moment = datetime.fromtimestamp(completed_at, UTC).isoformat(timespec="seconds")
        way_out = "start a new run, or pass completed=True to resume this one"
        super().__init__(path, f"its run completed at {moment}", way_out=way_out)
        self.completed_at = completed_at


class ConfigFileError(OtelBudgetError):
    """Refuse a configuration file as a whole: unreadable, or not YAML.

    path: the file. problem: what is wrong with it. line: where in the file, from 1; None where it
    is not known, or is not in one place.
    """

    def __init__(self, path: str, problem: str, line: int | None = None) -> None:
        """Keep the fields."""
        self.path, self.problem, self.line = path, problem, line
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {problem}")


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install '.[{extra}]' in a clone of otel-budget"


class MissingExtraError(OtelBudgetError):
    """Say which extra installs the package that is missing."""

    def __init__(self, what: str, extra: str, package: str) -> None:
        """Keep the fields and name the command that helps."""
        self.what, self.extra, self.package = what, extra, package
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed: {how_to_install(extra)}"
        )


class ListenError(OtelBudgetError):
    """Say that an address cannot be listened on, and what to do.

    address: ``host:port``. problem: what the operating system reported.
    """

    def __init__(self, address: str, problem: str, advice: str) -> None:
        """Keep the fields."""
        self.address, self.problem, self.advice = address, problem, advice
        super().__init__(f"cannot listen on {address}: {problem}; {advice}")


class InvalidConfigError(OtelBudgetError):
    """Refuse a configuration, with everything that is wrong with it at once.

    path: the file; empty for a configuration from flags. problems: one per value.
    """

    def __init__(self, path: str, problems: Sequence[InvalidValueError]) -> None:
        """Keep the fields; the message has a line for each problem."""
        self.path, self.problems = path, tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _rebuilt(
    kind: type[OtelBudgetError], args: tuple[object, ...], fields: dict[str, object]
) -> OtelBudgetError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error
