"""Words of configurations, command lines and files that several rooms know: each list once.

The kinds of a direction are those of the classes in `configuration.sections.plane`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

# How a network is rewritten, in the order in which the steps are applied; `evaluation.engine` says what each does.
Step = Literal["folded", "channels_last", "fused", "compiled", "graphed", "first_layer", "packed"]
# Floating-point format of the evaluation; "kept" is the one that each tensor of the network has.
Precision = Literal["float32", "tf32", "bfloat16", "float64", "kept"]
# What of a direction gets the norm of its counterpart in the center.
Normalization = Literal["filter", "layer", "weight", "none"]
# Which statistics batch normalization has away from the center: the center's, on the line between two ends' own, or those
# of the training data there; auto says it by the directions.
BatchNorm = Literal["auto", "stored", "interpolated", "recomputed"]
# Which tensors a direction moves.
Only = Literal["trainable", "all"]
# What a rule may say that a tensor is; `geometry.filters` says what follows.
TensorKind = Literal["weight", "bias", "norm", "scalar"]
# On which axes the way of an optimizer is looked at.
PathAxes = Literal["pca", "random", "start_to_end"]
Optimizer = Literal["sgd", "adam"]
# Which matrix of second derivatives: all of it, or one of its two parts.
Operator = Literal["hessian", "gauss_newton", "remainder"]
# Where data are held, as asked for.
Placement = Literal["auto", "resident", "streamed"]
# Who writes a file: every rank through parallel HDF5, or rank 0 for all.
Writer = Literal["parallel", "root"]
# Quantities that the program computes at a point besides what the loss returns, with their units; `evaluation.computed` says
# how. They do not add up over the shards of a split.
_CURVATURE = "nats per example and square unit of the parameters"
COMPUTED: Mapping[str, str] = MappingProxyType(
    {
        "gradient_norm": "nats per example and unit of the parameters",
        "lambda_max": _CURVATURE,
        "lambda_min": _CURVATURE,
        "lambda_max_residual": _CURVATURE,
        "lambda_min_residual": _CURVATURE,
        "lambda_noise": _CURVATURE,
        "lambda_max_normalized": "nats per example",
        "lambda_min_normalized": "nats per example",
        "lambda_difference": "1",
        "hessian_products": "products",
    }
)
# Those of the Hessian, which `python -m mpi_landscape.hessian` computes together.
OF_THE_HESSIAN = tuple(name for name in COMPUTED if name != "gradient_norm")
# An eigenvalue is told from 0 where it is larger than so many times the rounding error of a product.
RESOLVED = 10
# Names of a file that a loss cannot give to numbers of its own.
RESERVED = ("accuracy", "examples", "loss_sum", "loss_squares", "loss_stderr", *COMPUTED)
