"""Tables and figures of the language experiments, from their records.

    numbers, cross, dose, ...   one file per question: its figure (channel.py draws `code` and `reasoning`)
    real.py                     the tables and the figure of `real`, whose record is of another form
    gallery.py                  saves any of these figures, with title and caption
    tables.py                   the table of each question as text
    values.py                   values by base, shifts and intervals, computed from a record
    draw.py                     groups of columns, and curves

What a record holds is in `sublim_jax/forms/language.py` and `language_real.py`. No file here imports the programs
that make the records.
"""
