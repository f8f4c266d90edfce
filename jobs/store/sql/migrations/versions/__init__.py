"""The migrations, one module per revision, in order."""
