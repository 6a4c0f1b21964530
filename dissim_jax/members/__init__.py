"""Members: planned, on disk, found again."""
