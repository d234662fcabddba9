"""From spans, and from what adapters report, to model calls: each counted once, in its own run.

``span_reader`` reads one span, ``span_calls`` decides which spans are calls and which are the same
one, ``attribution`` whose call it is; ``call_tracker`` is the one place of a process where spans
and adapters report. Names that libraries use are data: ``attribute_names``, ``libraries``.

A call is counted at least once: nothing that may have been paid is dropped on one coincidence.
Nothing raises into the code that makes spans. Runs are known as ``UsageSink`` only; no adapters,
no metrics and no limits in here.
"""
