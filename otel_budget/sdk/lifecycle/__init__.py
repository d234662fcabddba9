"""A run's life in its process: how it starts, what a fork makes of it, and how it ends."""
