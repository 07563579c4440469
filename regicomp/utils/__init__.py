"""Files written whole or not at all; manners of a command line."""
