"""The range coder, and streams of symbols coded with it."""
