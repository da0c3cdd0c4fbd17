"""What screens are made of. A widget takes what it needs in its constructor and never imports the app or a screen."""
