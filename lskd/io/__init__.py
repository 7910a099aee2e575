"""Atomic writing, safe reading, one-line errors, tables; nothing here depends on what is measured."""
