"""What can be trained, and how a run is begun. Knows no Textual."""
