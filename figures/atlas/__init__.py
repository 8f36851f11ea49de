"""The atlas, read: verdicts on published values, findings, a page and figures, all from the records of its rows."""
