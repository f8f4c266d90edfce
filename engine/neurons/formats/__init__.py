"""Files of neurons: those of other projects, tables and JSON."""
