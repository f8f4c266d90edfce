"""Logs and traces of a process, and the context that they share across processes.

Does not know the packages that use it. The clients never import it.
"""
