"""Reading again only what changed: an optimisation that can be dropped whole.

The references are ``PageReader`` with ``assemble`` for a page, and ``take_apart`` for an answer:
what comes out here is what they would give, which tests/properties hold. Whatever is unusual is
read as a whole. No rule about what counts may be in here alone.
"""
