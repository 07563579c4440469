"""Codecs that CompressAI lacks; the others are its own classes, named in conf/backbone."""
