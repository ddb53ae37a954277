"""Thin checkpoints of a training that is somebody else's, in the background, in a folder that later programs read."""
