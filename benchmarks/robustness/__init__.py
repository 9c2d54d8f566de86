"""What `fuzz.py` and `kills.py` share: a small world of valid inputs, commands in child processes, folders compared."""
