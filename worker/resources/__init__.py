"""What engines take of memory and GPUs, and what each machine has."""
