"""What all parts ask of the interpreter: forks and threads."""
