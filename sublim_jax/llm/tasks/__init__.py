"""What models are asked: the paper's prompts, and the rules by which answers become training rows or are rejected."""
