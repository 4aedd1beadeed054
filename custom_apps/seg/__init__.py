"""Segmentation on data sets in nnU-Net layout: check, plan, prepare, train, predict, evaluate."""
