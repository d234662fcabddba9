"""The OTLP/HTTP receiver: a listener of its own, to which programs push metrics and events."""
