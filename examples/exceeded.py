"""At a limit: stop, whatever the progress. A verdict has the numbers; it can also be raised."""

from otel_budget import BudgetExceeded, LimitStatus, ResourceLimits, ResourceMonitor

with ResourceMonitor(ResourceLimits(max_tokens=1_000, max_api_calls=2)) as monitor:
    monitor.record_operation(tokens=300, api_call=True)
    monitor.record_operation(tokens=300, api_call=True)

    check = monitor.check_limits()
    assert check.status is LimitStatus.EXCEEDED
    print(f"exceeded: {', '.join(check.exceeded)}: {check.message}")
    print(f"go on? {monitor.should_continue(progress_estimate=0.99)}")

    try:
        monitor.raise_if_stopped()
    except BudgetExceeded as exc:
        print(f"as an exception: {exc}")
        print(f"  with its numbers: {exc.verdict.resources['api_calls']}")
