"""Pools of engines: in this process or in Ray actors; the supervisor, slot and sessions of each engine."""
