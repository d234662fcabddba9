"""The runs of this process as Prometheus metrics, and the page they are on."""
