"""The checks of `ampsweep doctor`, one module per part of the set-up."""
