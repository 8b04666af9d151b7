"""A server that is killed and one that is used for long, each judged from outside."""
