"""asyncio: let a step be interrupted by the stop instead of asking between steps."""

import asyncio

from otel_budget import ResourceLimits, ResourceMonitor


async def long_step(monitor: ResourceMonitor) -> None:
    """Stand for a step that makes call after call and never asks."""
    while True:
        await asyncio.sleep(0.01)
        monitor.record_operation(tokens=100, api_call=True)


async def main() -> None:
    """Run the step until it is done or the budget is."""
    async with ResourceMonitor(ResourceLimits(max_tokens=1_000), session_id="async") as monitor:
        step = asyncio.create_task(long_step(monitor))
        stop = asyncio.create_task(monitor.wait_for_stop_async(timeout=30))
        await asyncio.wait({step, stop}, return_when=asyncio.FIRST_COMPLETED)
        step.cancel()
        verdict = await stop
        used = monitor.get_usage_report().tokens
    if verdict is not None:
        print(f"interrupted at {used} tokens: {verdict.reason}")


asyncio.run(main())
