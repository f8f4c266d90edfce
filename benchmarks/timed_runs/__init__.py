"""What the measurements of throughput share: requests, the engines that run them, timing and tables."""
