"""The theorem in numbers: properties over random networks, an oracle for each function, and mutants that must die."""
