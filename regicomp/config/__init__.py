"""Settings: what they mean, which are refused, what follows from them."""
