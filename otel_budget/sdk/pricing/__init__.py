"""What a call costs: the user's own prices first, then the list that genai-prices carries."""
