"""Training: preparing networks, the loop, schedules, weight files."""
