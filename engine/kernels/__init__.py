"""The arithmetic of an intervention on a batch of tokens, each with its own slot: a' = mult * a + add.

Both kernels work on `out` = activation(gate) * up, where it is the same as out' = mult * out + add * up: the activation
function itself is left to the model, so a neutral entry (mult 1, add 0) leaves every bit as it was.
"""
