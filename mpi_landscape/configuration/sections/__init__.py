"""The sections of a configuration as frozen dataclasses: their defaults, and what makes a value valid."""
