"""What every reader does with files that nobody meant: damaged, made up, or hostile."""
