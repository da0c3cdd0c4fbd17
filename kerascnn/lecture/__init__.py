"""The lecture "CNN Training: how to increase training accuracy?", made executable: its claims beside measurements."""
