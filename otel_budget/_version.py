"""The version of this project: one place."""

__version__ = "0.1.0"
