"""A run's life in its process: how it starts, what a fork makes of it, and how it ends.

``run_controller`` connects one run to its checkpoints, guard, sidecar and span; ``autostart`` opens
the page if the environment asks for it; ``forked_run`` is what a child inherits; ``at_exit`` orders
what happens at the end of the process.

Nothing is opened, written or started before a run is first used. No counting in here.
"""
