"""The rows of the atlas, which are data: one file per axis, each with the published rows and those nobody published."""
