"""The first regularized codec and its baseline on Kodak."""
