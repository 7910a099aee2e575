"""A cached teacher: its outputs for each target token, computed and stored once."""
