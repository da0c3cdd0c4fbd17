"""Curves, signs and layer stacks as cells of text. Knows no widget."""
