"""What a run leaves: ``run.json``, its provenance, and finding and grouping runs."""
