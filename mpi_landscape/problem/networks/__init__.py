"""The networks that have a name.

The `input_size` is the (channels, height, width) of the images, and `num_classes` the number of outputs: a
network goes from (N, channels, height, width) to (N, num_classes).
"""
