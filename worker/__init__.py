"""The muscle: engines held by Ray actors or in this process, and the dispatcher that leases cells to them."""
