"""Encoding and decoding pictures: the container, model files, the decoder's sandbox."""
