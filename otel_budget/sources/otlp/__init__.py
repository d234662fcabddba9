"""What programs push by OTLP: from the bytes of a request to runs. No sockets in here.

A request is decoded to points and log records, of which only named attributes are kept; metrics get
the names that Prometheus would give them, so that the presets read both ways alike; events count by
the ``events`` of a preset.
"""
