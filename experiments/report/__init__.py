"""How results are shown: tables, figures, saved output, and the page that gathers them."""
