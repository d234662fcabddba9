"""Frameworks whose calls are counted, and asked about, by an adapter: one module for each."""
