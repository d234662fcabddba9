"""Near a limit: a run that is half-way stops with what it has, one that is nearly done finishes."""

from otel_budget import ResourceLimits, ResourceMonitor

limits = ResourceLimits(max_tokens=100_000)  # warning from 80 %, finish from 80 % progress


def run(name: str, tokens_per_step: int, steps: int) -> None:
    """Work step by step, as long as the monitor says so."""
    results = []
    with ResourceMonitor(limits, session_id=name) as monitor:
        for step in range(steps):
            if not monitor.should_continue(step / steps):
                break
            monitor.record_operation(tokens=tokens_per_step, api_call=True)
            results.append(step)
        verdict = monitor.verdict
    print(f"{name}: {len(results)} of {steps} steps; {verdict.action}: {verdict.reason}")
    print(f"  {verdict.message}")


run("half-way", tokens_per_step=21_000, steps=10)
run("nearly-done", tokens_per_step=9_000, steps=10)
