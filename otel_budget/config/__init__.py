"""Configuration files: read strictly, refused with file, line and key."""
