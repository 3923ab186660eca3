"""Files that data come in: downloads, image files, archives of them, and arrays."""
