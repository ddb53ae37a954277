"""The sections of a configuration as frozen dataclasses: their defaults, and what makes a value valid.

What holds between the fields of one section stands in its `__post_init__` and therefore also holds for a
section that Python code builds.
"""
