"""Sources of samples. A source measures; it never judges, and never makes up a 0."""
