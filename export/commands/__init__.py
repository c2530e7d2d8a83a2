"""The commands of `fastadasp-export`, one a file; what is slow to import is imported when a command runs."""
