"""What is evaluated: configuration, networks, data sets, losses, checkpoints."""
