"""Several processes: which one this is, starting the others, collectives."""
