"""What is evaluated: networks, data sets, losses, checkpoints."""
