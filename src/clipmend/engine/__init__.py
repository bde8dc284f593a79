"""How a run is kept true: parameters, grid, keys, cards, store and plan."""
