"""Entropies, exhaustive searches of codes and learned games that check docs/theory.md."""
