"""A run that keeps one call back, and ends with an answer instead of a refusal."""

from otel_budget import ResourceLimits, ResourceMonitor


def model(prompt: str, *, tools: bool) -> str:
    """Stand in for a real one."""
    return "a step" if tools else f"what is known so far: {prompt}"


limits = ResourceLimits.only(max_tokens=10_000, wrap_up_calls=1)
steps: list[str] = []
with ResourceMonitor(limits, "ending") as monitor:
    while monitor.should_continue():
        steps.append(model(f"go on. {monitor.briefing()}", tools=True))
        monitor.record_operation(tokens=1_500, api_call=True)
    print(f"stop: {monitor.verdict.reason}; {monitor.briefing()}")
    with monitor.wrap_up() as allowed:
        answer = model(f"{len(steps)} steps", tools=False)
        monitor.record_operation(tokens=1_500, api_call=True)
    print(f"{answer}, with {monitor.get_usage_report().tokens:,} of 10,000 tokens used")
