"""What all parts ask of the interpreter: forks and threads.

``fork`` has what must start clean in a forked child, ``workers`` small pools of named daemon
threads. Nothing of this project's subject in here, and nothing imported but the standard library.
"""
