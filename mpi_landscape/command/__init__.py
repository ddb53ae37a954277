"""The shell of the programs: their arguments, their errors, their exit statuses."""
