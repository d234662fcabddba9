"""The rules, as pure functions, in one place: the process and the sidecar call the same ones."""
