"""Values as text for a terminal.

``verdict`` words one verdict, ``verdict_list`` many of them and a run's overrides, ``page`` the
report on a /metrics page. Text written by others passes through ``logs.text``, so that a terminal
obeys none of it. Nothing in here asks, decides, prints or exits.
"""
