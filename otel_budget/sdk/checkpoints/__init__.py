"""What a run leaves on disk to be resumed from: whole, or refused."""
