"""The paper as pure functions. Axes: B rows, J responses, G responses of one group, T tokens, V vocabulary, H hidden."""
