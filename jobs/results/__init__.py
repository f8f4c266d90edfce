"""The files of a sweep: schema, writer, summary, finalization, provenance, retention."""
