"""As the vendor lays it out."""
