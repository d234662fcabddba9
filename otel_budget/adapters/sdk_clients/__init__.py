"""The guard of OpenAI's and Anthropic's clients, which are made alike: one does for both.

``door`` is what applications use. ``guard`` asks before a request goes out; ``answers`` reads
what comes back, ``streams`` and ``raw_bodies`` what comes in pieces.
What is of one SDK only is in ``openai_sdk`` and ``anthropic_sdk``.
"""
