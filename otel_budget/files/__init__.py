"""Files that people write: read strictly, and noticed when they change."""
