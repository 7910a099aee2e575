"""The records of runs: ``run.json``, its provenance, and finding and grouping runs."""
