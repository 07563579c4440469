"""Source entropy models q_θ(x|x̂): one file per family over one shared base."""
