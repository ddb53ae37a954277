"""Made: the loop that finds solutions, the same to the last bit wherever it was interrupted."""
