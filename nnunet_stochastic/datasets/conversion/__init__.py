"""Public data sets in nnU-Net's raw format, with all raters: one module per data set plans, `run` writes."""
