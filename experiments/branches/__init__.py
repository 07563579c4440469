"""Short branches from a well-trained codec, with and without the regularizer."""
