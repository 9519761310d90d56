"""Methods that compute less of attention, or other attention: to a window, to few places, or by segments."""
