"""Applications as users write them, run by real servers and workers in their own environment."""
