"""The sections of the pages: a module gathers the data of one, its template in ``templates/sections`` shows them."""
