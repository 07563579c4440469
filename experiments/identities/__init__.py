"""The identities shown: exact on small sources, in the learned game on known sources, and on photographs."""
