"""Verdicts on published values, findings, a page and figures of the atlas, all from the records of its rows."""
