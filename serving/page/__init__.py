"""The page at `/`: plain files that a browser runs, which ask this server and no other."""
