"""What commands print, how they fail, and how they end."""
