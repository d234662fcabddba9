"""What otel-budget costs, beside what people use today: ratios measured in one run.

``python -m benchmarks`` runs all of it, ``python -m benchmarks --help`` says what else it does.
Nothing here asserts a time; goals are printed with what was measured.
"""
