"""The method: R + λD and the regularizer -α H(X|X̂)."""
