"""The pages: a module for each section, drawings."""
