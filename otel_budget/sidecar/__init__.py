"""Where the sidecar's parts come together: source, ledger, policy, store, publication."""
