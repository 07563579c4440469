"""Imported by the fork server alone: what every run needs is imported once."""

import harness

harness.preload()
