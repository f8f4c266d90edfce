"""A finished sweep as one page: questions put to its Parquet files, their answers as figures and tables."""
