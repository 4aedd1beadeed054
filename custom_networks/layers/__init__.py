"""Modules built from the operators and torch.nn: mixers, embeddings, convolution blocks."""
