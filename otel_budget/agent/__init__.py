"""Where the agent's parts come together: the monitor and the orchestrator."""
