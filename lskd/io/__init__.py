"""Atomic writing, safe reading, one-line errors, argument types, tables; nothing here depends on what is measured."""
