"""What has been run and is running, read from run directories. Knows no Textual."""
