"""What operators see of a process: its log and its traces, and the names that both carry from one to another.

A leaf: nothing here knows the rooms that use it, and the client never imports it.
"""
