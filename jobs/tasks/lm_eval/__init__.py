"""Tasks of lm-evaluation-harness, used as a library: it makes the requests and scores the answers of our engines."""
