"""All benchmarks of one checkpoint."""
