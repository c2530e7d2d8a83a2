"""Result files in, one page out that needs no network."""
