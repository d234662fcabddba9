"""In the process of a run: it counts, asks whether the run may go on, and shows what was used.

A run is judged by its own limits from exact counts, and by the sidecar's verdict on top. Nothing in
here is needed by the sidecar, and nothing that only the sidecar needs is loaded.
"""
