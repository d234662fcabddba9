"""What a call costs: your own prices first, then the list that genai-prices carries.

``prices`` answers, ``custom`` reads your own file, ``bundled`` asks genai-prices (imported when the
first model has to be priced, never fetched), ``rates`` does the arithmetic in exact decimals.

A price that is not known is None, never 0. What was charged goes before every price.
"""
