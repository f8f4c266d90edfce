"""Tasks of lm-evaluation-harness: its task layer as a library, scored on our engines. No model of its own is loaded."""
