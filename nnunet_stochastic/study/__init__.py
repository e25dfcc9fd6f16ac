"""A study: datasets x aleatoric models x epistemic methods x seeds, from one file to a comparison and a page.

``reading`` makes a ``description`` of the file by its ``schema``, ``checks`` compares it with what is there, ``jobs``
says which commands follow from it, ``Snakefile`` hands these to Snakemake, ``run_job`` carries out one of them and
records it.
"""
