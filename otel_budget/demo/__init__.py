"""The demo: three runs over two recorded coding-agent runs, with a sidecar beside them.

``play`` replays them, once or round after round; ``scenario`` has the three runs and their limits;
``recordings`` reads what was recorded (``ATTRIBUTION.md`` says whose it is); ``screen`` shows it.
The runs use the public API alone, as a reader's own would, and the sidecar is another process.
"""
