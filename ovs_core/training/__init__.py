"""How the shipped weights are made. Nothing outside imports this room."""
