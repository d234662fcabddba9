"""From spans to model calls: each call once, however many report it, and in its own run.

The rules, in this order:
1. The same response id is the same call, whatever made the second span.
2. Of inference spans above and below each other the first that says what was used is the call. One
   that says nothing is held until those above it have ended.
3. Of two libraries that nothing links, and that are known to report the same calls, one counts.
   Known it is after coincidences; the first of them are taken for chance and counted twice:
   nothing that may have been paid is dropped on one look.
4. An agent's usage counts only if no call below it did.

A call that is held is counted when nothing better can come any more: at the end of the spans above
it, of its run, or after a while.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.genai import attribute_names
from otel_budget.genai.call import Call, CountedCall, Hold, UsageSink
from otel_budget.genai.deduplication import Unlinked
from otel_budget.genai.response_ids import ResponseIds
from otel_budget.genai.same_call import (
    is_inside_reported_call,
    is_reported_failure,
    linked_records,
    replaced_record,
    says_more_than,
)
from otel_budget.genai.span_reader import NOTHING_REPORTED, CallReport, Kind, Usage
from otel_budget.genai.span_tree import (
    MAX_OPEN,
    Begun,
    Node,
    State,
    Tree,
    note_counted,
    note_counted_elsewhere,
    note_tool_call,
)
from otel_budget.genai.streams import StreamRecords
from otel_budget.genai.tool_calls import ToolCalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.genai.span_reader import ToolReport

#: Seconds a call without usage waits for another record of it.
HOLD: Final = 120.0
#: Calls that wait so at once, at most.
MAX_HELD: Final = 10_000
#: Seconds after which an open span is taken to never end.
NEVER_ENDS: Final = 3_600.0
_SWEEP_EVERY: Final = 5.0


_ONE_TOOL_CALL: Final = {semconv.TOOL_CALLS: 1}


class SpanCalls:
    """Decide, span by span, what is counted. Not thread-safe; calls nothing outside."""

    def __init__(self) -> None:
        self.tree = Tree()
        self._ids = ResponseIds()
        self._held: OrderedDict[Node, float] = OrderedDict()
        self._streams = StreamRecords()
        self._unlinked = Unlinked()
        self._tools = ToolCalls()
        self._swept_at = 0.0
        self._counted: list[CountedCall] = []
        self._duplicates: list[tuple[str, str]] = []
        self._over: list[Hold] = []
        """What calls held that are over and counted."""

    def start(self, begun: Begun) -> Node:
        """Take in a span that begins."""
        self.sweep(begun.at)
        node = self.tree.add(begun)
        if len(self.tree.open) > MAX_OPEN:
            self._never_ends(next(iter(self.tree.open.values())))
        return node

    def end(self, node: Node, report: CallReport, now: float, *, failed: bool) -> None:
        """Take in a span that has ended."""
        if node.ended or node.state is State.COUNTED:
            # The same span twice, or one that was taken to never end, and counted.
            self._rest_of(node, report)
            self.tree.end(node)
            self._let_go(node)
            return
        if report.tool is not None:
            self._tool(node, report.tool)
        node.kind = report.kind
        self.tree.end(node)
        node.response_id, node.usage, node.model = (
            report.response_id,
            report.usage,
            report.model or "",
        )
        if report.kind is Kind.INFERENCE:
            self._inference(node, report, now, failed=failed)
        elif report.kind is Kind.STREAM_RECORD:
            self._stream_record(node, report)
        elif report.kind is Kind.AGGREGATE:
            self._aggregate(node, report)
        self._release_below(node)
        if node.state is not State.HELD:
            self._let_go(node)

    def sweep(self, now: float) -> None:
        """Count what has waited for too long, and what never ends."""
        if now - self._swept_at < _SWEEP_EVERY:
            return
        self._swept_at = now
        for node, until in list(self._held.items()):
            if until > now:
                break
            self._count_held(node)
        for node in list(self.tree.open.values()):
            if now - node.started_at <= NEVER_ENDS:
                break
            if node.kind is Kind.INFERENCE:  # an agent may work for days
                self._never_ends(node)

    def settle(self, sink: UsageSink | None = None, *, open_too: bool = False) -> None:
        """Count all that is held (of one run), with open_too also the calls that did not end."""
        for node in list(self._held):
            if sink is None or node.sink is sink:
                self._count_held(node)
        if open_too:
            for node in list(self.tree.open.values()):
                if node.sink is sink and not any(a.may_say_more for a in node.ancestors):
                    self._count_open(node)
            self._streams.forget(sink)

    @property
    def decided(self) -> bool:
        """True if there is something to take."""
        return bool(self._counted or self._duplicates or self._over)

    def take(self) -> tuple[list[CountedCall], list[tuple[str, str]], list[Hold]]:
        """Return what was decided since the last time, pairs of scopes that report the same, and
        what is held for calls that are over, to be ended once these are counted.
        """
        taken = self._counted, self._duplicates, self._over
        self._counted, self._duplicates, self._over = [], [], []
        return taken

    def _let_go(self, node: Node) -> None:
        """Have what a call held given back."""
        if node.hold is not None:
            self._over.append(node.hold)
            node.hold = None

    # --- what a span is ------------------------------------------------------------------------
    def _inference(self, node: Node, report: CallReport, now: float, *, failed: bool) -> None:
        if node.refused and not node.usage_known and report.response_id is None:
            return  # a call was refused inside it: no model was asked
        call = _call(node, report, failed=failed)
        linked = linked_records(node)
        if linked and not says_more_than(node, linked):
            self._drop(node, linked[0].scope)
            return
        if self._same_id(node, report, linked) or (
            not linked and self._repeats_unlinked(node, report, call)
        ):
            for other in linked:
                self._give_way(other, node.scope)
            return
        if linked:  # this one says more
            other = replaced_record(linked)
            call = call._replace(is_call=other.state is not State.COUNTED)
            self._give_way(other, node.scope)
        if node.usage_known and is_inside_reported_call(node):
            self._hold(node, call, now)
        elif node.usage_known or not self._waits(node, report, call, now):
            self._count(node, call)

    def _waits(self, node: Node, report: CallReport, call: Call, now: float) -> bool:
        """Hold a call that says nothing, if something else may still say it."""
        if node.scope.startswith(attribute_names.STREAM_RECORDS):
            if self._streams.request(node, report, failed=call.failed):  # its tokens are counted
                self._count(node, call._replace(unknown=False))
                return True
            if call.failed:
                return False
        elif is_reported_failure(call) or not any(a.may_say_more for a in node.ancestors):
            return False
        self._hold(node, call, now)
        return True

    def _hold(self, node: Node, call: Call, now: float) -> None:
        node.state, node.call = State.HELD, call
        self._held[node] = now + HOLD
        if len(self._held) > MAX_HELD:
            self._count_held(next(iter(self._held)))
        note_counted(node, 0)
        self._ids.remember(node, call.usage)

    def _stream_record(self, node: Node, report: CallReport) -> None:
        if self._same_id(node, report):
            return
        asked = self._streams.record(node, report)
        if asked is not None and asked.state is State.DROPPED:
            self._drop(node, asked.scope)  # another library's record of that call was counted
        elif asked is not None and asked.state is State.HELD and asked.call is not None:
            self._held.pop(asked)
            asked.usage = report.usage
            said = _call(asked, report, failed=False)
            self._count(asked, said._replace(model=said.model or asked.call.model))
        elif report.usage.known:  # the request was counted before, or has not ended yet
            self._count(node, _call(node, report, failed=False)._replace(is_call=False))

    def _aggregate(self, node: Node, report: CallReport) -> None:
        repeats = (
            node.usage_below
            or node.scope.startswith(attribute_names.LIFETIME_TOTALS)
            or node.begun_late  # what was below it is not known
        )
        if (report.usage.known or report.refused) and not repeats:
            call = _call(node, report, failed=False)
            self._count(node, call._replace(is_call=not node.counted_below))

    def _tool(self, node: Node, tool: ToolReport) -> None:
        if self._tools.is_new(node, tool, self.tree.started):
            note_tool_call(node)
            call = Call(node.scope, None, None, is_call=False, further=_ONE_TOOL_CALL)
            self._counted.append(CountedCall(node.sink, node.phase, call))

    # --- the same call twice -------------------------------------------------------------------
    def _same_id(self, node: Node, report: CallReport, linked: Sequence[Node] = ()) -> bool:
        known = self._ids.same(node, report.usage, linked)
        if known is None:
            return False
        self._drop(node, known.scope)
        self._count_rest(node, report, known.usage)
        return True

    def _repeats_unlinked(self, node: Node, report: CallReport, call: Call) -> bool:
        counted = self._unlinked.repeated(node, call)
        if counted is None:
            return False
        self._drop(node, counted.scope)
        self._count_rest(node, report, counted.usage)
        return True

    def _give_way(self, node: Node, counted_scope: str) -> None:
        self._held.pop(node, None)
        self._drop(node, counted_scope)
        self._let_go_if_ended(node)

    def _let_go_if_ended(self, node: Node) -> None:
        if node.ended:
            self._let_go(node)

    def _drop(self, node: Node, counted_scope: str) -> None:
        """Leave a record out: the call is counted by another one."""
        node.state, node.call = State.DROPPED, None
        note_counted_elsewhere(node)
        if node.scope != counted_scope:
            self._unlinked.learn(node.scope, counted_scope)
            self._duplicates.append((node.scope, counted_scope))

    # --- counting ------------------------------------------------------------------------------
    def _count(self, node: Node, call: Call) -> None:
        node.state, node.call = State.COUNTED, None
        note_counted(node, call.usage.input + call.usage.output)
        self._ids.remember(node, call.usage)
        if call.is_call:
            self._unlinked.counted(node, call, self.tree.started)
        self._counted.append(CountedCall(node.sink, node.phase, call))

    def _count_held(self, node: Node) -> None:
        self._held.pop(node, None)
        if node.call is not None:
            self._count(node, node.call)
        self._let_go_if_ended(node)

    def _release_below(self, node: Node) -> None:
        """Count what was held for this span, unless something else may still say more."""
        for held in node.below:
            if held.state is not State.HELD or held.scope.startswith(
                attribute_names.STREAM_RECORDS
            ):
                continue
            if not any(above.may_say_more for above in held.ancestors):
                self._count_held(held)

    def _count_open(self, node: Node) -> None:
        open_call = node.kind is Kind.INFERENCE and node.state is State.NONE
        if not open_call or node.counted_below or node.refused:
            return
        call = _call(node, NOTHING_REPORTED, failed=False)
        if not self._repeats_unlinked(node, NOTHING_REPORTED, call):
            self._count(node, call)

    def _never_ends(self, node: Node) -> None:
        self._count_open(node)
        self.tree.end(node)
        self._let_go(node)

    def _count_rest(self, node: Node, report: CallReport, counted: Usage) -> None:
        """Count what the first record of a call did not say."""
        if report.usage.known and not counted.known:
            self._ids.remember(node, report.usage)
            rest = _call(node, report, failed=False)._replace(is_call=False)
            self._counted.append(CountedCall(node.sink, node.phase, rest))

    def _rest_of(self, node: Node, report: CallReport) -> None:
        """Count what a call used that was counted before it ended."""
        if node.state is State.COUNTED and report.usage.known and not node.usage_known:
            node.usage = report.usage
            call = _call(node, report, failed=False)._replace(is_call=False)
            self._counted.append(CountedCall(node.sink, node.phase, call))


def _call(node: Node, report: CallReport, *, failed: bool) -> Call:
    unknown = not failed and (not report.usage.known or report.partly or bool(report.refused))
    model = report.model or _first(node, attribute_names.MODEL)
    provider = report.provider or _first(node, attribute_names.PROVIDER)
    more = report.costs, report.extras
    return Call(node.scope, model, provider, report.usage, failed, unknown, True, *more)  # noqa: FBT003 - by name it takes half a microsecond more


def _first(node: Node, spellings: tuple[str, ...]) -> str | None:
    for spelling in spellings:
        value = node.first.get(spelling)
        if isinstance(value, str) and value:
            return value
    return None
