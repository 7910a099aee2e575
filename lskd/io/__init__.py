"""Atomic writing, safe reading, errors in one line, tables; nothing here depends on what is measured."""
