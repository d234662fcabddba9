"""The texts of alerts: what both template languages have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping

from grafana.board import SESSION
from grafana.condition import Condition, Form
from otel_budget import semconv
from otel_budget.core.resources import TIMES

#: Where a reader of an alert finds what to do, in the repository.
RUNBOOKS = "docs/runbooks.md"


def where_to_read(condition: Condition, runbooks: str) -> dict[str, str]:
    """Return the annotations that name its runbook.

    runbooks: URL of the page; becomes ``runbook_url``, which Grafana and other tools show as a
    link. Without one there is only the path in the repository.
    """
    anchor = condition.name.lower()
    found = {"runbook": f"{RUNBOOKS}#{anchor}"}
    return {**found, "runbook_url": f"{runbooks}#{anchor}"} if runbooks else found


def shown(number: str, form: Form) -> str:
    """Return the template of a number, given the pipeline that yields it.

    An amount is written after its resource: humanize alone makes 579.6m of half a dollar.
    """
    if form == "money":
        return f'{{{{ {number} | printf "%.2f" }}}}'
    if form != "amount":
        return f"{{{{ {number} | {form} }}}}"
    money = f'{{{{ {number} | printf "$%.2f" }}}}'
    times = " ".join(f'"{name}"' for name in TIMES)
    time, other = f"{{{{ {number} | humanizeDuration }}}}", f"{{{{ {number} | humanize }}}}"
    return (
        f'{{{{ if eq $labels.resource "{semconv.COST}" }}}}{money}'
        f"{{{{ else if eq $labels.resource {times} }}}}{time}"
        f"{{{{ else }}}}{other}{{{{ end }}}}"
    )


def labels_of(condition: Condition) -> dict[str, str]:
    """Return the templates of an alert's labels, by the names that its texts have for them."""
    names = {label: f"{{{{ $labels.{label} }}}}" for label in condition.labels}
    if semconv.GROUP in condition.labels:  # a budget for all has none
        names["of_group"] = "{{ if $labels.group }} of {{ $labels.group }}{{ end }}"
    return names


def fill(text: str, names: Mapping[str, str]) -> str:
    """Put names in braces into a text. Raises KeyError for one that there is not."""
    return re.sub(r"{(\w+)}", lambda found: names[found[1]], text)


def dashboard_path(condition: Condition) -> str:
    """Return the path of the dashboard to look at, at the run that it is about."""
    path = f"/d/{condition.dashboard}"
    if semconv.BUDGET in condition.labels:
        return f"{path}?var-budget={{{semconv.BUDGET}}}"
    of_run = condition.dashboard == SESSION and semconv.SESSION_ID in condition.labels
    return f"{path}?var-session={{{semconv.SESSION_ID}}}" if of_run else path
