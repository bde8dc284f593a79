"""Attacks, a file each: a trigger, the rows it marks and the captions it plants."""
