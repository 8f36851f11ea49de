"""Records of the language experiments, read: what they hold, their values, tables and figures.

Nothing here knows the programs that make the records. `forms.py` says what a record holds, `values.py` computes from
it, `tables.py` writes it as text, and there is one file per question with its drawing, which `gallery.py` saves.
"""
