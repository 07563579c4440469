"""Settings: their types, rules and derived values, resolved once."""
