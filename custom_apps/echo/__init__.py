"""Ultrasound video: ejection fraction, ventricle masks, breast lesions, masked pre-training."""
