"""Text to typed tree and back."""
