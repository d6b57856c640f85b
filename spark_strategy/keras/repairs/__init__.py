"""One file per upstream fault, and the list of them."""
