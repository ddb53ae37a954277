"""How a path is found: each method asks for losses and gradients at points of its curve, and moves the curve by them."""
