"""Parts of stages that only some of their cells run; the keys of the other cells lack them."""
