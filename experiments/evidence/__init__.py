"""The evidence for the audit tools: each one is tried on cases that nothing was tuned on."""
