"""That this file is here puts its folder on the import path: tests share modules that stand beside it."""
