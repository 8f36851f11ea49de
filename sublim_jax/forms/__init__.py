"""The form of each experiment's records: what the JSON holds. The program that writes a record and the figures that
read it share these forms and nothing else."""
