"""Very many photos: rows in Parquet files, made on this machine or on Ray. Loops round the engine."""
