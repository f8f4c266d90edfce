"""Changes to a loaded model: its layers, MLPs, experts, routers and rotary embeddings."""
