"""What goes to the log: each thing once, within what each speaker may write, as printable text.

``logger`` is that of an agent's process, ``once`` says a thing once, ``line_limit`` bounds how many
lines there are, ``text`` cleans what others wrote. Nothing in here configures logging or decides
what is worth a line.
"""
