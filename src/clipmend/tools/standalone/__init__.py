"""`suspects` and `mend`: clipmend on a model and pairs of one's own."""
