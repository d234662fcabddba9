"""Coding agents that nobody can change: what is known of each, one package for one agent.

``hooks`` reads what its hooks send and writes the answers that it understands; ``launch`` says how
it is started so that it is counted and can be stopped; ``settings`` what is written to its files.
Nothing here decides whether a run may go on: that is policy's. Nothing here listens, or starts
anything.
"""
