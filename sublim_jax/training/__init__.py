"""From a reference to a teacher to students: `stages.run` for one member, `ensemble` for many."""
