"""Weights as programs leave them: which files of a folder, which mapping of a file, and how names become a network's."""
