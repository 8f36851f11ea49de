"""From a reference to a teacher to students: `lineage.run` for one member, `ensemble` for many."""
