"""A verdict on numbers that are there already, whoever measured them: `paribus judge FILE`.

table.py reads a file, columns.py finds out which column is what, metric.py how the numbers are read. runs.py judges
runs and summaries of runs, examples.py models on the same examples; both give a `Judged`, of which report.py makes the
report, plot.py the intervals as text and as SVG. Nothing here needs torch, and of SciPy only scipy.special.
"""
