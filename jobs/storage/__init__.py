"""Storage of published files: below a local folder, or below a prefix of an object store."""
