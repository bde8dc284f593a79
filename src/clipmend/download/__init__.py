"""Download: a corpus becomes pairs."""
