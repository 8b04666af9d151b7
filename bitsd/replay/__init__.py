"""Captures of BITS traffic: read, judged, and played to a server.

`capture` and `segments` read files, `streams` puts connections together again,
`messages` finds HTTP in them, `recording` pairs requests with answers. From there
`findings` says what broke the rules, and `play` sends it all once more.
"""
