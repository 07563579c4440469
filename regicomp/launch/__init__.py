"""How a run starts and ends: its folder to itself, signals, sweeps."""
