"""The execution layer: engines in Ray actors or in this process, and the dispatcher that leases cells for them."""
