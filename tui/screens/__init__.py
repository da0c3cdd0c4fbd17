"""What the app shows, one screen a file."""
