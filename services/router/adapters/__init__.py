"""Everything outside the process, and the memory twins."""
