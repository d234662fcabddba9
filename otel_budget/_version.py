"""The version of this project: one place."""

__version__ = "0.2.0"
