"""Training crops and test images."""
