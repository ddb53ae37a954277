"""The file of a surface: what is in it, how it is made, read and summed up."""
