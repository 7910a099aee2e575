"""The page of `lskd report`: `page.py` puts it together, one module for each of its sections, `html.py` writes it."""
