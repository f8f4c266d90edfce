"""What `ampsweep doctor` looks at, a file a part of the set-up."""
