"""From an intervention to edited activations, independent of the engine."""
