"""What the language experiments share: materials, the lab, and how they are run."""
