"""The paper's tables as data, their layout, and measured numbers in the same form."""
