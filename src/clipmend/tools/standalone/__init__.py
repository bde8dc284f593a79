"""`suspects` and `mend`: clipmend on a model and pairs of your own."""
