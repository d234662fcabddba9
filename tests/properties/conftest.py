"""One hypothesis profile for all properties: no deadline; in CI the same examples every time."""

import os

from hypothesis import HealthCheck, settings

IN_CI = bool(os.environ.get("CI"))

settings.register_profile(
    "otel_budget",
    deadline=None,  # a busy machine is no finding
    derandomize=IN_CI,
    database=None,  # leaves no folder behind; a failure prints how to reproduce it
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # for the same reason as the deadline
)
settings.load_profile("otel_budget")
