"""One file a figure: its title, its caption and the function that plots it."""
