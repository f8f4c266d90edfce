"""Where published files lie: below a local folder, or below a prefix of an object store."""
