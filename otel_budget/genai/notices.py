"""What a user should know about the telemetry of their libraries, each thing once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.genai.libraries import library, streaming_advice
from otel_budget.logs.logger import logger
from otel_budget.logs.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Sequence

    from otel_budget.core.usage import ResourceUsage
    from otel_budget.genai.call import Call

#: What there is to read about runs in servers and pools.
PAGE: Final = "docs/web-servers-and-workers.md"


class Notices:
    """Say each thing once in the life of a process."""

    def __init__(self, say: Callable[..., None] = logger.warning) -> None:
        """Begin with nothing said. say: takes a text and what to put into it."""
        self._say = say
        self._once = Once()

    def unknown(self, call: Call) -> None:
        """Say that a call succeeded without saying what it used, and how to change that."""
        if self._once.first(("unknown", call.scope, call.model)):
            self._say(
                "%s report a call%s without usage: it counts as a call of unknown usage, and "
                "on_unknown_usage decides what follows (said once). A call that was cancelled, "
                "abandoned midway or runs in the background has no usage to report; for the "
                "others, %s",
                library(call.scope), f" of {call.model}" if call.model else "",
                streaming_advice(call),
            )  # fmt: skip

    def without_calls(self, usage: ResourceUsage, limit: int | None) -> None:
        """Say that a run counted tokens and no call, so that its limit on calls never applied."""
        idle = limit is not None and usage.tokens and not usage.api_calls
        if idle and self._once.first("without_calls"):
            self._say(
                "run %r: it recorded %s tokens and no API call, so its limit of %s API calls never "
                "applied: pass api_call=True with each call, or max_api_calls=None if you do not "
                "want to limit calls (said once)",
                usage.session_id, f"{usage.tokens:,}", f"{limit:,}",
            )  # fmt: skip

    def left_behind(self, session_id: str) -> None:
        """Say that a run with checkpoints was dropped without saying how it ended."""
        if self._once.first("left_behind"):
            self._say(
                "run %r: its monitor was dropped before the run ended: its last checkpoint does "
                "not say that it completed, so ResourceMonitor.resume would resume it; use 'with "
                "monitor:', or call close() (said once)", session_id,
            )  # fmt: skip

    def duplicate(self, one: str, other: str) -> None:
        """Say that two libraries report the same calls."""
        if one.startswith(semconv.SCOPE_NAME) or other.startswith(semconv.SCOPE_NAME):
            return  # an adapter beside spans: both are wanted
        if self._once.first(("duplicate", frozenset((one, other)))):
            self._say(
                "%s and %s both report the same calls: each call is counted once (said once). "
                "Switch one of them off, or name it in instrument(ignore_scopes=[...]): %r, %r",
                library(one), library(other), one, other,
            )  # fmt: skip

    def unattributed(self, call: Call) -> None:
        """Say that a call was made outside of every run."""
        if self._once.first(("unattributed",)):
            self._say(
                "a call of %s was made outside any run: it counts as unattributed usage of the "
                "process, and no limit applies to it (said once). Make calls inside 'with "
                "monitor:', and pass the run to your own threads and callbacks with "
                "monitor.bind(function): %s",
                call.model or "an unnamed model", PAGE,
            )  # fmt: skip

    def after_end(self, call: Call, session_id: str) -> None:
        """Say that a call was made in the context of a run that has ended."""
        if self._once.first(("after end", session_id)):
            self._say(
                "run %r: a call of %s was made in its context after it ended: it counts as "
                "unattributed usage of the process, and no limit applies to it (said once for a "
                "run). Keep the run open as long as its code runs, for example until a streamed "
                "answer has been sent: %s",
                session_id, call.model or "an unnamed model", PAGE,
            )  # fmt: skip

    def lost(self, session_id: str, calls: int) -> None:
        """Say that calls were made outside of every run while a run was entered."""
        self._say(
            "run %r: while it was entered, this process made model calls outside any run: %s. If "
            "they belong to the run, they are missing from its budget: where code runs in another "
            "thread or context, use monitor.bind() or monitor.attach() (%s)",
            session_id, calls, PAGE,
        )  # fmt: skip

    def unasked(self, session_id: str, scope: str) -> None:
        """Say that a call of a run was seen, and that no adapter asked before it, as of others."""
        self._say(
            "run %r: a model call was made without the adapter, and seen by %s: such calls are "
            "counted, but cannot be refused (said once for a run). Is the adapter missing "
            "somewhere (install(), run_config=, budgeted(), callbacks)? docs/adapters.md",
            session_id, library(scope),
        )  # fmt: skip

    def forgotten(self, session_id: str, model: object, framework: str, instead: str) -> None:
        """Say, at the first of them, that calls of a run are made past an adapter in use.

        framework: the adapter's. instead: what the application is to call.
        """
        if self._once.first(("forgotten", framework, session_id)):
            self._say(
                "run %r: a call of %s was made without the adapter for %s: it cannot be refused, "
                "and is counted only if spans report it. Use %s: docs/adapters.md (said once for "
                "a run)", session_id, model or "an unnamed model", framework, instead,
            )  # fmt: skip

    def refused(self, scope: str, values: Sequence[str]) -> None:
        """Say that a span gave a count that cannot be one."""
        if self._once.first(("refused", scope, values[0].partition("=")[0])):
            self._say(
                "%s give %s, which cannot be a count: it is treated as unknown (said once)",
                library(scope), ", ".join(values),
            )  # fmt: skip

    def strange(self, scope: str, name: str, operation: object) -> None:
        """Say that a span carries usage and is not taken for a call."""
        if self._once.first(("strange", scope, operation if isinstance(operation, str) else None)):
            self._say(
                "%s carry usage on %r (operation %r), which is not a known kind of model call: it "
                "is not counted (said once). Please report this", library(scope),
                name[:80], operation,
            )  # fmt: skip

    def written_over(self, scope: str) -> None:
        """Say that LiteLLM writes the usage of one call over that of another."""
        if self._once.first(("litellm",)):
            self._say(
                "LiteLLM's OpenTelemetry callback writes the usage of its calls onto the span "
                "around them (of %r), where the last call overwrites the others: usage is missing "
                "from the budget (said once). Use the adapter instead: docs/adapters.md", scope,
            )  # fmt: skip

    def nothing_seen(self, session_id: str, adapters: Collection[str], *, spans: bool) -> None:
        """Say that a run ended without a call. adapters, spans: by what it could have been seen."""
        why = []
        if spans:
            why.append(
                "is the library instrumented, does it use the tracer provider that instrument() "
                "was called for, and was it called after your own set-up?"
            )
        if adapters:
            why.append(
                f"is the adapter for {' and '.join(sorted(adapters))} missing (run_config=, "
                "budgeted(), callbacks, install())?"
            )
        if self._once.first(("nothing",)):
            self._say(
                "run %r: it ended, and not one model call was seen. If it made any: %s (said once)",
                session_id, " or ".join(why),
            )  # fmt: skip

    def no_longer(self, *what: Hashable) -> None:
        """Take something for said: it is being minded."""
        self._once.first(what)

    def repeated(self, session_id: str) -> None:
        """Say that an operation recorded by hand is counted from spans, too."""
        if self._once.first(("repeated",)):
            self._say(
                "run %r: operation.record() repeats calls that the library's own spans report: the "
                "spans are counted, and only what it reports beyond them is added (said once)",
                session_id,
            )  # fmt: skip
