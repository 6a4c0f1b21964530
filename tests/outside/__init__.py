"""Additions as a user of the package would write them, for test_plugins."""
