"""The file of a training history."""
