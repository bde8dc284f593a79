"""Methods that remove a backdoor from a trained model."""
