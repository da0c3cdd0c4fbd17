"""What screens are made of. A widget imports neither the app nor a screen."""
