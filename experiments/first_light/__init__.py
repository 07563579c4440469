"""The first regularized codec and its anchor on Kodak."""
