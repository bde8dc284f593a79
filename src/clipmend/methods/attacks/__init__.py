"""How an attacker poisons training pairs."""
