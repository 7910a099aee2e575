"""A teacher without its forward pass: what it gave for each target token, stored once."""
