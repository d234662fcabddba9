"""From spans, and from what adapters report, to model calls: each counted once, in its own run."""
