"""The identities: exact on small sources, in the learned game on known sources, and on photographs."""

from regicomp.utils import cli

cli.quiet_libraries()  # before torch and lightning are imported
