"""The agent's side back from the world: the sidecar's verdicts and their leases."""
