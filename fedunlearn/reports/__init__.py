"""What a comparison says: tables, pictures and one self-contained page, all from one document.

`fedunlearn.reports.table.comparison_table` for the terminal, `fedunlearn.reports.write.write_report` for a folder;
nothing is imported here, so that printing a table does not load the plotting library.
"""
