"""What a network learns from: where datasets lie, how they are read, split, varied and put into batches."""
