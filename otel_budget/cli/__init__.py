"""The command ``otel-budget``. It parses, asks and prints; what it shows is made elsewhere."""
