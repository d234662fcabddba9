"""Values as text for a terminal: nothing in here asks, decides or exits."""
