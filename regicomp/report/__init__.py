"""`python -m regicomp.report`: records become tables, figures and a page."""
