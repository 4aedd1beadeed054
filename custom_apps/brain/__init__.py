"""Brain tumors in four MR contrasts: IDH and 1p/19q status, masked pre-training, maps of tokens."""
