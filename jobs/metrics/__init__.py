"""From a cell's samples to numbers: values with their intervals, paired with the unsteered baseline."""
