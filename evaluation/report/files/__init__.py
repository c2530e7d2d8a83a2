"""Result files, read into records."""
