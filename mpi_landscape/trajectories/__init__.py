"""Where training went: the way of an optimizer on axes that mean something."""
