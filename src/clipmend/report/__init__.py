"""The comparison: tables, figures and a page made from every other cell."""
