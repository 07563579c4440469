"""The table of five backbones on Kodak."""
