"""One folder for each table or figure: question, command, results."""
