"""``otel-budget doctor``: try the whole chain, and name the link that is broken.

``diagnosis`` has the order of the links; ``prometheus``, ``sidecar``, ``agent_page`` and
``trial_run`` each look at a part and yield findings, and stop where nothing behind a broken link
can be told. They ask as a run or an operator would, over the network, and read nothing of the
sidecar's storage. What was found is a ``finding.Finding``; the command prints it.
"""
