"""What measures: a source reads what runs show, and hands it on as an Observation.

- ``base`` has the protocol; ``scrape`` and ``prometheus`` implement it, ``replay`` does for tests.
- A source never judges, never turns what is missing into 0, and never raises for what the other
  side did: a target that fails is a Problem, and its runs are absent.
- What one target sends is bounded in time, size and processor time, and costs no other target.
- Nothing in here knows limits or verdicts; what another program's metrics mean is in ``presets``.
"""
