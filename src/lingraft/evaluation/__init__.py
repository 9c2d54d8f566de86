"""What was learned and what was forgotten, on the same bytes before and after."""
