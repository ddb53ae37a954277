"""Words of configurations, command lines and files that several rooms know: each list once.

The kinds of a direction are those of the classes in `configuration.sections.plane`.
"""

from typing import Literal

# How a network is rewritten, in the order in which the steps are applied; `evaluation.engine` says what each does.
Step = Literal["folded", "channels_last", "fused", "compiled", "graphed", "first_layer"]
# Floating-point format of the evaluation.
Precision = Literal["float32", "tf32", "bfloat16", "float64"]
# What of a direction gets the norm of its counterpart in the center.
Normalization = Literal["filter", "layer", "weight", "none"]
Optimizer = Literal["sgd", "adam"]
# Where data are held, as asked for.
Placement = Literal["auto", "resident", "streamed"]
# Who writes a file: every rank through parallel HDF5, or rank 0 for all.
Writer = Literal["parallel", "root"]
