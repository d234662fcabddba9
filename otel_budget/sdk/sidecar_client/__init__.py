"""The sidecar's verdicts, asked for and trusted for their lease: standard library only."""
