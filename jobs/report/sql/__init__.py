"""The SQL of the report: its views over the files of a sweep, and the queries of its questions."""
