"""Made: the loop that finds solutions."""
