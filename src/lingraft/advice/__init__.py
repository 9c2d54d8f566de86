"""What to graft how, before anything trains: measured facts, rules with their sources, and what nobody knows."""
