"""HTML pages of results, and their drawings.

A page is a list of sections: ``runs_page.py`` makes the page of ``lskd report RUNS``, ``experiments_page.py`` that of
``--contents``. A section is a module in ``sections``, which gathers its data, and a template of the same name in
``templates/sections``, which shows them. Recurring elements are data classes in ``elements.py`` and HTML in
``templates/macros.html``. Colours are in ``style.css`` for the pages and in ``drawing_style.py`` for the drawings.
"""
