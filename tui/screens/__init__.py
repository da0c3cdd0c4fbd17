"""One file a screen, its style beside it. A screen composes; it asks the app for the rest by messages."""
