"""The identities shown: exact on small sources, in the learned game on known sources, and on photographs."""

from regicomp.config import settings

settings.quiet_libraries()  # before torch and lightning are imported
