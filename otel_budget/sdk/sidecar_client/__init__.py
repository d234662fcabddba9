"""The process's side of the sidecar's protocol, with the standard library only.

``stream`` follows the verdicts of all runs that use one sidecar over one connection, ``polling``
asks where no stream is to be had, ``nudge`` asks the sidecar to look now; ``lease`` says how long a
verdict may be trusted. ``request`` is the same for the command line.

Whatever a sidecar answers, or does not, never ends a run: the lease runs out, and the run's own
limits apply. No decisions in here.
"""
