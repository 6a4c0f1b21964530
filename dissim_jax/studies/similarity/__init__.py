"""How alike members' representations are, tap by tap."""
