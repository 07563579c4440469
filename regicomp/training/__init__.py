"""Building networks, the alternating update, and what keeps a long run alive."""
