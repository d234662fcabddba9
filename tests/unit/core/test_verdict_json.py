"""A verdict as JSON: the golden shape, what a reader accepts, and what it refuses by name."""

import dataclasses
import json
import math
import os
from decimal import Decimal
from typing import Any

import pytest

from otel_budget.core import verdict_json
from otel_budget.core.forecast import NO_FORECAST, Estimate, Forecast
from otel_budget.core.observation import RunAttributes
from otel_budget.core.reasons import Action
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.errors import InvalidValueError
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from tests.support.paths import TESTS

GOLDEN = TESTS / "golden" / "verdict.json"
NOON = 1767268800.0

BALANCE = RunSnapshot(
    session_id="my-session",
    started_at=NOON - 3599.75,
    used={"duration": 1536.5, "tokens": 831_000, "api_calls": 42, "cost": Decimal("1.2345")},
    attributes=RunAttributes(
        limits={"duration": 3600.0, "tokens": 1_000_000, "api_calls": 1000},
        completion_threshold=0.8,
        progress=0.4,
        state="running",
    ),
    rates={"duration": 1.0, "tokens": 330.078125},
    sampled_at=NOON + 0.12,
    silent_for=0.011,
    gap=1.0,
    trouble=None,
    implausible_for=None,
    ended=False,
)
RULES = Rules(ceilings=bounds_from({"cost": Decimal(5)}, {}, "sidecar"), revision="r1")
JUDGED = verdict_from_snapshot(BALANCE, RULES, NOON + 0.131)
FORECAST = Forecast(Estimate(23.4, 19.2, 27.1), Estimate(512.0, 418.3, 604.9))
VERDICT = dataclasses.replace(
    JUDGED,
    sequence=42,
    resources={
        **JUDGED.resources,
        "tokens": JUDGED.resources["tokens"]._replace(forecast=FORECAST),
    },
)


def data() -> dict[str, Any]:
    """Return a good verdict, decoded, to be spoilt."""
    decoded: dict[str, Any] = json.loads(verdict_json.to_json(VERDICT))
    return decoded


def test_a_verdict_has_the_shape_of_the_contract() -> None:
    """The whole of it, byte for byte; OTEL_BUDGET_UPDATE_GOLDEN=1 writes the file anew."""
    text = json.dumps(verdict_json.to_dict(VERDICT), indent=1) + "\n"
    if os.environ.get("OTEL_BUDGET_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_the_golden_verdict_is_read_back_as_it_was() -> None:
    """Its times are whole milliseconds, so nothing is lost."""
    assert verdict_json.from_json(GOLDEN.read_bytes()) == VERDICT


def test_a_verdict_is_one_line() -> None:
    """A frame of the stream holds one line of data, whatever a message says."""
    verdict = dataclasses.replace(VERDICT, message="two\nlines\u2028\r")
    assert len(verdict_json.to_json(verdict).splitlines()) == 1
    assert verdict_json.from_json(verdict_json.to_json(verdict)) == verdict


def test_valid_until_is_the_lease_after_the_evaluation_and_absent_without_one() -> None:
    """A run's own verdict needs no lease."""
    assert data()["valid_until"] == "2026-01-01T12:00:15.131Z"
    own = verdict_json.to_dict(dataclasses.replace(VERDICT, lease_seconds=None))
    assert (own["lease_seconds"], own["valid_until"]) == (None, None)


def test_what_a_newer_sidecar_adds_is_accepted() -> None:
    """Keys, reasons, resources with money, origins and budgets this version does not know."""
    newer = data()
    newer["reason"] = "budget_spent"
    newer["run_state"] = "waiting"
    newer["signature"] = {"alg": "x"}
    newer["budgets"] = [{
        "name": "team", "group": {"user": "ann"}, "mode": "enforce", "window": {"start": None},
        "resources": {}, "limit_from": "budget:team{user=ann}", "binds": True, "colour": "red",
    }]  # fmt: skip
    state = {"used": "1.50", "limit": "2", "remaining": "0.50", "ratio": 0.75, "status": "ok"}
    newer["resources"]["team_cost"] = {**state, "limit_from": "budget", "window": "week"}
    newer["resources"]["searches"] = {**state, "used": 3, "limit": 4, "remaining": 1}
    read = verdict_json.from_dict(newer)
    assert (read.reason, read.run_state) == ("budget_spent", "waiting")
    assert read.resources["team_cost"].used == Decimal("1.50")
    assert str(read.resources["team_cost"].limit_from) == "budget"
    assert read.resources["searches"].used == 3
    assert [(budget.name, budget.group) for budget in read.budgets] == [("team", {"user": "ann"})]


OPTIONAL: dict[str, object] = {
    "run_started_at": None, "headroom": {}, "budgets": (), "progress": None, "data_at": None,
    "lease_seconds": None, "sequence": None, "decision_id": "", "policy_revision": "",
    "completion_threshold": None, "run_state": None, "unjudged": (),
}  # fmt: skip
REQUIRED = [
    "version", "session_id", "action", "status", "reason", "message", "resources", "evaluated_at",
]  # fmt: skip


@pytest.mark.parametrize("key", OPTIONAL)
@pytest.mark.parametrize("how", ["absent", "null"])
def test_what_may_be_unknown_may_be_absent_or_null(key: str, how: str) -> None:
    """And is then unknown, never 0."""
    spoilt = data()
    if how == "null":
        spoilt[key] = None
    else:
        del spoilt[key]
    field = {"run_started_at": "started_at"}.get(key, key)
    assert getattr(verdict_json.from_dict(spoilt), field) == OPTIONAL[key]


def test_every_key_is_required_or_optional() -> None:
    """valid_until is for people: nobody reads it; two others follow from the resources; would
    has tests of its own (test_shadow.py)."""
    derived = {"limit_from", "ends_first"}
    assert {*OPTIONAL, *REQUIRED, *derived, "valid_until", "would", "wrap_up"} == data().keys()


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_field_is_refused_by_name(key: str) -> None:
    """Nothing is made up in its place."""
    spoilt = data()
    del spoilt[key]
    with pytest.raises(InvalidValueError) as caught:
        verdict_json.from_dict(spoilt)
    assert caught.value.key == key


WRONG: list[tuple[str, list[object]]] = [
    ("version", [2, 0, "1", 1.0, True, None]),
    ("session_id", [5, None, "", "a b", "a" * 129]),
    ("action", ["pause", "", None, 1, [], True]),
    ("status", ["unknown", None, 0, {}]),
    ("reason", [None, 5, []]),
    ("message", [None, 5]),
    ("resources", [None, [], "x", 5]),
    ("headroom", [[], "x", 5, True]),
    ("budgets", [{}, "x", 5, ["x"], [[]]]),
    ("progress", ["0.5", -0.1, 1.1, float("nan"), True, 10**400]),
    ("completion_threshold", ["0.5", -1, 2, []]),
    ("evaluated_at", [None, 5, "", "noon", "2026-13-01T00:00:00Z", "2026-01-01T12:00:00"]),
    ("data_at", [5, "noon", True]),
    ("run_started_at", ["5", -1, float("inf"), float("nan"), []]),
    ("lease_seconds", ["15", -1, float("inf"), True]),
    ("sequence", ["1", -1, 1.5, True]),
    ("decision_id", [5, [], True]),
    ("policy_revision", [5, {}]),
    ("run_state", [5, [], True]),
]


@pytest.mark.parametrize(("key", "value"), [(key, v) for key, values in WRONG for v in values])
def test_a_wrong_field_is_refused_by_name(key: str, value: object) -> None:
    """Every field, also where a wrong one could have been turned into text or left alone."""
    with pytest.raises(InvalidValueError) as caught:
        verdict_json.from_dict({**data(), key: value})
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("resource", "key", "value"),
    [
        ("tokens", "used", None),
        ("tokens", "used", "831000"),
        ("tokens", "used", True),
        ("tokens", "used", float("nan")),
        ("tokens", "used", 10**400),
        ("tokens", "limit", []),
        ("tokens", "remaining", "none"),
        ("tokens", "ratio", "0.8"),
        ("tokens", "ratio", float("inf")),
        ("tokens", "status", "fine"),
        ("tokens", "status", None),
        ("tokens", "limit_from", 5),
        ("tokens", "exhaustion_seconds", "soon"),
        ("tokens", "exhaustion_seconds", -1),
        ("tokens", "at_least", "yes"),
        ("tokens", "at_least", 1),
        ("tokens", "estimated", "yes"),
        ("tokens", "forecast", "soon"),
        ("tokens", "forecast", []),
        ("cost", "used", 1.5),
        ("cost", "used", "much"),
        ("cost", "limit", "NaN"),
        ("cost", "limit", "Infinity"),
        ("cost", "remaining", 1),
    ],
)
def test_a_wrong_field_of_a_resource_is_refused_by_its_path(
    resource: str, key: str, value: object
) -> None:
    """Money is a string, everything else a finite number."""
    spoilt = data()
    spoilt["resources"][resource][key] = value
    with pytest.raises(InvalidValueError) as caught:
        verdict_json.from_dict(spoilt)
    assert caught.value.key == f"resources.{resource}.{key}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("calls_left", "many"),
        ("calls_left", -1),
        ("calls_left", math.inf),
        ("calls_left_range", None),
        ("calls_left_range", [19.2]),
        ("calls_left_range", [19.2, 23.0]),
        ("calls_left_range", [24.0, 27.1]),
        ("calls_left_range", [-1.0, 27.1]),
        ("calls_left_range", [19.2, "more"]),
        ("seconds_left_range", [418.3, math.inf]),
        ("seconds_left_range", {}),
    ],
)
def test_a_wrong_field_of_a_forecast_is_refused_by_its_path(key: str, value: object) -> None:
    """A range is two numbers, and what is told lies between them."""
    spoilt = data()
    spoilt["resources"]["tokens"]["forecast"][key] = value
    with pytest.raises(InvalidValueError) as caught:
        verdict_json.from_dict(spoilt)
    assert caught.value.key == f"resources.tokens.forecast.{key}"


def test_what_cannot_be_told_is_null_and_is_read_as_unknown() -> None:
    """Never 0; a sidecar that tells less sends less."""
    told = data()["resources"]
    assert told["duration"]["forecast"]["calls_left"] is None
    assert told["duration"]["forecast"]["seconds_left"] == 3600 - 1536.5
    assert "forecast" not in told["cost"]
    spoilt = data()
    spoilt["resources"]["tokens"]["forecast"] = {"calls_left": None, "seconds_left": None}
    assert verdict_json.from_dict(spoilt).resources["tokens"].forecast == NO_FORECAST
    del spoilt["resources"]["tokens"]["forecast"]
    assert verdict_json.from_dict(spoilt).resources["tokens"].forecast is None


@pytest.mark.parametrize("value", [None, [], 5, "x"])
def test_a_resource_that_is_no_object_is_refused_by_its_path(value: object) -> None:
    """So is headroom that is no amount."""
    with pytest.raises(InvalidValueError, match=r"resources\.tokens: "):
        verdict_json.from_dict({**data(), "resources": {"tokens": value}})
    if value != 5:
        with pytest.raises(InvalidValueError, match=r"headroom\.tokens: "):
            verdict_json.from_dict({**data(), "headroom": {"tokens": value}})


@pytest.mark.parametrize(
    "text",
    ["", "nothing", "[1", b"\xff\xfe", "[" * 100_000, "9" * 10_000, "null", "[]", "5", '"x"'],
    ids=lambda text: repr(text[:9]),
)
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    """Cut off, in another encoding, nested too deeply, or something else."""
    with pytest.raises(InvalidValueError, match=r"^verdict: "):
        verdict_json.from_json(text)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_json_does_not_have_are_refused(constant: str) -> None:
    """Python would read them."""
    text = verdict_json.to_json(VERDICT).replace('"used":831000', f'"used":{constant}')
    assert constant in text
    with pytest.raises(InvalidValueError, match=r"resources\.tokens\.used"):
        verdict_json.from_json(text)


def test_a_number_json_does_not_have_is_not_written() -> None:
    """Better an error at home than a line nobody can read."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        verdict_json.to_json(dataclasses.replace(VERDICT, progress=float("nan")))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (NOON + 0.12, "2026-01-01T12:00:00.120Z"),
        (NOON + 0.1239, "2026-01-01T12:00:00.123Z"),
        # A lease or a start time that somebody made up must not stop what writes it.
        (1e300, "9999-12-31T23:59:59.999Z"),
        (math.inf, "9999-12-31T23:59:59.999Z"),
        (-1e300, "0001-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc_with_milliseconds(seconds: float, text: str) -> None:
    """Cut, so that no time lies ahead of what it stands for."""
    assert verdict_json.timestamp(seconds) == text


def test_times_in_another_zone_are_read() -> None:
    """A gateway may write them its own way."""
    assert (
        verdict_json.from_dict({**data(), "data_at": "2026-01-01T13:00:00+01:00"}).data_at == NOON
    )


def test_a_read_verdict_answers_in_one_word() -> None:
    """Yes or no is derived from the action."""
    assert not VERDICT.should_continue
    assert (VERDICT.action, VERDICT.status) == (Action.STOP, LimitStatus.APPROACHING)
    go_on: Verdict = verdict_json.from_dict({**data(), "action": "continue"})
    assert go_on.should_continue


def test_an_estimate_is_said_and_a_frame_that_knows_none_is_read_as_without() -> None:
    """An older sidecar does not send the key; neither does this one without need."""
    assert "estimated" not in data()["resources"]["tokens"]
    assert not verdict_json.from_dict(data()).resources["tokens"].estimated
    said = data()
    said["resources"]["tokens"]["estimated"] = True
    verdict = verdict_json.from_dict(said)
    assert verdict.resources["tokens"].estimated
    assert verdict_json.to_dict(verdict)["resources"]["tokens"]["estimated"] is True
