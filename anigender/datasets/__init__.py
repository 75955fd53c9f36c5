"""Folders and tables of labelled pictures: reading them, and saying what is wrong with them."""
