"""What goes to the log: each thing once, within what each speaker may write, as printable text.

``once`` says a thing once, ``line_budget`` bounds how many lines there are, ``text`` cleans what
others wrote. Nothing in here configures logging or decides what is worth a line.
"""
