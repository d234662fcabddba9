"""What an address says about where it leads: the loopback test and the URL check of all parts.

Pure: nothing in here opens a connection or looks a name up. Who may ask what is said where it is
asked (``sidecar/api/auth``, ``sdk/metrics/own_names``).
"""
