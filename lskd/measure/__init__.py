"""From features, logits and labels to numbers: η and the other measurements."""
