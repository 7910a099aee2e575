"""The sections of the pages: each module has one section's data, ``templates/sections`` has its HTML by the same name."""
