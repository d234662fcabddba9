"""What goes to the log: each thing once, within what each speaker may say."""
