"""One file for each kind of reference vector."""
