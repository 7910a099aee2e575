"""Whole-or-nothing files, safe reading, errors in one line, tables; nothing here knows what is measured."""
