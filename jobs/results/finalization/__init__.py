"""From the files of cells to the results of a sweep, whole or partial."""
