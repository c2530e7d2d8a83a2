"""The page at `/`: plain files that a browser runs, which ask this server and no other."""

from .routes import page_routes as page_routes
