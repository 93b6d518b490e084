"""Calls between processes: `Service` offers methods, and `Client` calls them."""
