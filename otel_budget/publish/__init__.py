"""Verdicts to everyone else: HTTP and Server-Sent Events."""
