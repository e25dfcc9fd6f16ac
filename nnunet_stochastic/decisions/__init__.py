"""From maps to decisions: structures, lesions, intervals that hold as often as they say, which case to open first.

Pure numbers: arrays and what was computed of them go in, numbers and plain data come out.
"""
