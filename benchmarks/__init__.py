"""What bitsd costs, beside other servers that do the same work on this machine."""
