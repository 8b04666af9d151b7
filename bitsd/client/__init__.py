"""What sends files to BITS servers, and fetches them."""
