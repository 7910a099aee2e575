"""What is trained on; needs torch alone. Read :mod:`lskd.loss.reference` first: the formula, plain and slow."""
