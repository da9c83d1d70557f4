"""Function that is no function."""

solve = 14
