"""In the process of a run: it counts, asks whether the run may go on, and shows what was used.

``monitor`` is the public door, ``recorder`` counts, ``guard`` answers; ``run_record`` and
``run_counters`` hold the numbers that everything else reads. A run is evaluated by its own limits
from exact counts, and by the sidecar's verdict on top; nothing here waits for a network, and
nothing raises into the run's own work but a refused argument and ``BudgetExceeded``.

Not in here: rules (policy), reading spans (genai), and whatever only the sidecar needs. Whatever is
kept for the whole process is registered with ``runtime.fork``, so that a forked child starts clean.
"""
