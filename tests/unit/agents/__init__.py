"""Unit tests of what is known of coding agents."""
