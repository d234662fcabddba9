"""What runs inside the environment of a library: plays scenarios, says what was counted."""
