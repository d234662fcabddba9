"""The seam for adapters: calls that a framework tells of itself, instead of by spans."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.extras import extras_of
from otel_budget.genai import attribute_names, attribution
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.span_reader import NOT_A_CALL, UNSAID, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextvars import Token

    from otel_budget.genai.call import Target
    from otel_budget.genai.span_reader import Facts
    from otel_budget.genai.span_tree import Node

_OTHER_PARTS: Final = {
    "operation": attribute_names.OPERATION,
    "model": attribute_names.MODEL[0],
    "provider": attribute_names.PROVIDER[0],
    "response_id": attribute_names.RESPONSE_ID[0],
    "charge": attribute_names.CHARGE[0],
    "estimate": attribute_names.ESTIMATE[0],
    "service_tier": attribute_names.SERVICE_TIER[0],
}


class HasTarget(Protocol):
    """A monitor, as an adapter needs it."""

    @property
    def target(self) -> Target:
        """The account of its run."""


def told(scope: str, *, extras: Mapping[str, int] | None = None, **said: Any) -> Facts:
    """Return what a framework said of a call, by the same rules as for spans.

    extras: what is billed beside plain tokens, by ``model.extras.NAMES``. said: ``input``,
    ``output``, ``cached``, ``cache_write``, ``reasoning`` (tokens), ``operation`` (default
    ``chat``), ``model``, ``provider``, ``response_id``, ``service_tier``, ``charge`` and
    ``estimate`` (US dollars, as in ``costs``); None for what it does not say.
    """
    seen: dict[str, object] = {attribute_names.OPERATION: "chat"}
    for part, value in said.items():
        if value is not None:
            seen[_OTHER_PARTS[part] if part in _OTHER_PARTS else attribute_names.USAGE[part][0]] = (
                value
            )
    facts = read("chat", scope, seen)
    return facts._replace(extras=extras_of(extras, said.get("service_tier"))) if extras else facts


class ReportedCall:
    """One call of a framework: checked before, counted after. Close it once."""

    def __init__(
        self, scope: str, monitor: HasTarget | None, *, target: Target | None = None, **said: Any
    ) -> None:
        """Begin a call. Raises BudgetExceeded, and begins none, if the run must stop.

        monitor: of the run, by default that of the context, or the target that was handed on from
        there. said: what is known of the call already, as in ``told``; for a call that ends without
        an answer it is all there is.
        """
        target = target if target is not None and monitor is None else target_of(monitor)
        if target is not None:
            try:
                target.check()
            except BudgetExceeded:
                CALL_TRACKER.refuse()
                raise
        self._scope, self._said, self._target = scope, said, target
        self._node = CALL_TRACKER.open_call(scope, target=target)
        self._token: Token[Node | None] | None = None

    @contextmanager
    def around(self) -> Iterator[None]:
        """Take what is reported in this context for other records of this call."""
        self.enclose()
        try:
            yield
        finally:
            self.release()

    def enclose(self) -> None:
        """Do as ``around`` does until ``release``, for callbacks."""
        self._token = attribution.ENCLOSING.set(self._node)

    def release(self, *, everywhere: bool = False) -> None:
        """Take what is reported from now on for calls of their own.

        everywhere: in contexts that were copied, or are no longer at hand, too.
        """
        if everywhere and self._node is not None:
            self._node.encloses = False
        token, self._token = self._token, None
        if token is not None:
            with suppress(ValueError):  # left in another context, as async generators may be
                attribution.ENCLOSING.reset(token)

    def refusal_inside(self) -> BudgetExceeded | None:
        """Return why a call inside this one was refused, if one was and the run must still stop.

        For frameworks that make an error of their own of it.
        """
        if self._node is not None and self._node.refused and self._target is not None:
            try:
                self._target.check()
            except BudgetExceeded as exc:
                return exc
        return None

    def cancel(self) -> None:
        """Count nothing: it was no call after all."""
        self._close(NOT_A_CALL, failed=False)

    def close(self, *, failed: bool = False, **said: Any) -> None:
        """Count the call with what the framework said of it, as in ``told``. Never raises."""
        if self._is_told_inside():
            self.cancel()
            return
        known = {name: value for name, value in said.items() if value is not None}
        try:
            facts = told(self._scope, **{**self._said, **known})
        except Exception:  # noqa: BLE001 - a defect here must not end the user's model call
            CALL_TRACKER.broken("ends")
            facts = UNSAID
        self._close(facts, failed=failed)

    def _is_told_inside(self) -> bool:
        """Tell whether the framework made its call by another one of its functions."""
        node = self._node
        return node is not None and any(
            inner.scope == node.scope and inner.usage_known for inner in node.below
        )

    def _close(self, facts: Facts, *, failed: bool) -> None:
        self.release()
        node, self._node = self._node, None
        CALL_TRACKER.close_call(node, facts, failed=failed)


def target_of(monitor: HasTarget | None) -> Target | None:
    """Return the account of a run: of the given one, else of that of the context."""
    return attribution.current() if monitor is None else monitor.target
