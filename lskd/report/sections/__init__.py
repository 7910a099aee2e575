"""Sections of pages: each module gathers the data of one section; its template in ``templates/sections`` shows it."""
