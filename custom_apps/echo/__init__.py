"""Ultrasound video: ejection fraction, left-ventricle masks and masked pre-training on echocardiograms and breast scans."""
