"""Hearts with known truth: short-axis stacks of cine and late enhancement from several centres."""
