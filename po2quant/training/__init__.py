"""Training: preparing networks, the loop, schedules, weight files, run folders."""
