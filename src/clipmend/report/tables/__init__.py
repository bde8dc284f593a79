"""One file a table: its title, its notes and the function that fills it."""
