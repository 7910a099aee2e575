"""The paper's tables as data, their layout, and measured results in the same form."""
