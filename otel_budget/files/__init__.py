"""Files that are read strictly: YAML with lines, tokens, and what tells that a file changed.

An error names the file and, where it can, the line. A secret is never part of a message. What a
file means is for its reader: nothing in here knows a key of the configuration.
"""
