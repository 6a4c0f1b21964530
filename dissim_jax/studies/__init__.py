"""Studies of trained members, a folder each: settings, measuring, record, what the page says."""
