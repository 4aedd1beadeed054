"""Thyroid ultrasound: Deblurring masked autoencoders, classification of images, segmentation of nodules."""
