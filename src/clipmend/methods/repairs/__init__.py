"""What removes a backdoor from a trained model."""
