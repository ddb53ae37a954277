"""All that only a path between two solutions needs: curves, how they are found, the losses along them, what its file says."""
