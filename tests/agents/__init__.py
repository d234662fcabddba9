"""Coding agents: what they sent (``fixtures``), and the programs against a provider of ours."""
