"""Dashboards and alerts as code; ``python -m grafana`` writes the files they come to."""
