"""Methods that restrict attention: to a window, to fewer keys, to the largest scores, or to one segment."""
