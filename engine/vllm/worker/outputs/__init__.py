"""What workers compute for requests besides tokens: scores, recordings and captures."""
