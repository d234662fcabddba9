"""The agent's side out to the world: spans, metrics, checkpoints."""
