"""Output, errors, exit codes and signals of the commands."""
