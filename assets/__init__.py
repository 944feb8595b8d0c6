"""The starter model, example pictures, and the code that made them."""
