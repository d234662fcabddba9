"""What the sidecar says of the run while the program runs."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.resources import COUNTED
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.sidecar_client.client import VerdictClient
from otel_budget.sdk.sidecar_client.request import Asker, AskError, session_path

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict

_FINAL: Final = tuple(reason for reason in Reason if reason.is_final)
_ASK_EVERY: Final = 0.4
#: Verdicts on other runs that are looked at.
_OTHERS: Final = 20


class Following:
    """Follows the verdicts on one run, from before its program starts to after its end."""

    def __init__(self, asker: Asker, run: str) -> None:
        """Take note of what is known of the run already: that was before this program."""
        self._asker, self._run = asker, run
        self._lock = threading.Lock()
        self._latest = self.ask()
        self._before = self._latest
        self._unreached_at: float | None = None
        self._client = VerdictClient(
            asker.url, run, on_verdict=self._take, on_reachable=self._reached
        )
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to follow."""
        self._client.start()
        threading.Thread(target=self._ask_on, name="otel-budget-use", daemon=True).start()

    def stop(self) -> None:
        """Follow no more."""
        self._over.set()
        self._client.stop()

    @property
    def is_known(self) -> bool:
        """Tell whether the run was known before this program."""
        return self._before is not None

    @property
    def is_used_up(self) -> bool:
        """Tell whether the run was to stop before this program, for what no data can change."""
        found = self._before
        return found is not None and says_stop(found) and found.reason in _FINAL

    def begin_anew(self) -> None:
        """Take what is known now for what was known before the program."""
        self._latest = self._before = self.ask()

    @property
    def latest(self) -> Verdict | None:
        """The newest verdict that is on what this program has used; None while there is none."""
        with self._lock:
            found = self._latest
        return found if found is not None and self._is_news(found) else None

    @property
    def unreached_for(self) -> float:
        """Seconds for which the sidecar has not answered."""
        with self._lock:
            since = self._unreached_at
        return 0.0 if since is None else time.monotonic() - since

    def ask(self) -> Verdict | None:
        """Return the verdict as it is now, whatever it is on."""
        try:
            text = self._asker.get(f"/v1/verdicts/{quote(self._run, safe='')}")
            return verdict_json.from_json(text)
        except (AskError, InvalidValueError):
            return None  # the run is not known yet; or it is said by who follows

    def tell(self, state: str) -> None:
        """Tell how the program is; of a run that nothing is known of there is nothing to tell."""
        path = f"{session_path(self._run, 'state')}?state={state}"
        with contextlib.suppress(AskError):  # an older sidecar: it finds out by the silence
            self._asker.ask("POST", path)

    def ask_again(self) -> Verdict | None:
        """Return the newest verdict after the end of the program, whatever it is on."""
        found = self.ask()
        if found is not None:
            self._take(found)
        with self._lock:
            return self._latest

    def is_used(self, verdict: Verdict | None) -> bool:
        """Tell whether the program has used anything, by a verdict on its run."""
        if verdict is None:
            return False
        return self._before is None or _counted(verdict) != _counted(self._before)

    def is_pushed_to(self) -> bool:
        """Tell whether the sidecar's receiver was pushed to, by whomever. True if it cannot say."""
        try:
            page = self._asker.ask("GET", "/metrics", accept="text/plain").body.decode()
        except (AskError, ValueError):
            return True
        name = semconv.PUSHED_REQUESTS.name
        taken = [row.rpartition(" ")[2] for row in page.splitlines() if _is_taken(row, name)]
        return any(float(value) > 0 for value in taken)

    def others(self) -> tuple[Verdict, ...]:
        """Return the verdicts on other runs that the sidecar knows, the worst first."""
        try:
            page = json.loads(self._asker.get(f"/v1/verdicts?limit={_OTHERS}"))
            found = [verdict_json.from_dict(each) for each in page["verdicts"]]
        except (AskError, InvalidValueError, ValueError, KeyError, TypeError):
            return ()
        return tuple(verdict for verdict in found if verdict.session_id != self._run)

    def _is_news(self, verdict: Verdict) -> bool:
        return verdict.reason == Reason.OPERATOR_STOP or self.is_used(verdict)

    def _ask_on(self) -> None:
        """Ask as often as the line on the budget is shown: a stream tells of what changes it."""
        while not self._over.wait(_ASK_EVERY):
            found = self.ask()
            if found is not None:
                self._take(found)

    def _take(self, verdict: Verdict) -> None:
        with self._lock:
            if self._latest is None or verdict.evaluated_at >= self._latest.evaluated_at:
                self._latest = verdict

    def _reached(self, reachable: bool) -> None:  # noqa: FBT001 - as the client calls it
        with self._lock:
            self._unreached_at = None if reachable else time.monotonic()


def says_stop(verdict: Verdict) -> bool:
    """Tell whether the program is to stop: not for want of data on a run that has ended."""
    over = verdict.run_state in semconv.OVER_STATES
    if over and verdict.status is LimitStatus.INCONCLUSIVE:
        return False
    return verdict.action is Action.STOP


def _is_taken(row: str, name: str) -> bool:
    return row.startswith(f"{name}{{") and f'{semconv.OUTCOME}="taken"' in row


def _counted(verdict: Verdict) -> object:
    return {name: state.used for name, state in verdict.resources.items() if name in COUNTED}


def used_of(verdict: Verdict) -> object:
    """Return what a call adds to, to be compared for equality."""
    state = verdict.resources.get(semconv.TOKENS)
    return None if state is None else state.used
