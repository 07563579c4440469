"""One folder for each table or figure: what it asks, command, results."""
