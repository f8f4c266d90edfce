"""Ampsweep: amplify the language-specific neurons of a multilingual LLM, at scale.

`from ampsweep import Client` talks to a server; `ampsweep --help` lists the commands. Nothing here imports torch.
"""

__version__ = "0.1.0"
