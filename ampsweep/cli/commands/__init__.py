"""The commands, one module per command or per group of commands."""
