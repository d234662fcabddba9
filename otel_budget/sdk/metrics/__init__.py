"""The runs of this process as Prometheus metrics, and the page they are on.

``collector`` keeps the runs that are shown, ``families`` turns their counts into series,
``process_totals`` adds them up for OpenTelemetry's instruments; ``endpoint`` opens the page. A new
metric of a run is a declaration in semconv and a line in ``families.PER_RUN``.

A run that is over stays until it has been scraped; label values are capped; counts are read under
the record's lock, so that parts add up to totals. Nothing in here changes a count.
"""
