"""Reading again only what changed: an optimisation that can be dropped whole."""
