"""One module, or one small package, for each framework: it asks before a call, and counts after it.

Such a module is all there is of its adapter: its scope, its name and its advice are what it gives
to ``base.register``. It imports the framework, so nothing else in otel_budget imports it; what a
call says goes through ``genai.reported_call``. ``asgi`` opens a run for each web request.
"""
