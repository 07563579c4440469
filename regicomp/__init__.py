"""Train and measure neural image codecs with an information-theoretic regularizer."""

__version__ = "0.1.0"
