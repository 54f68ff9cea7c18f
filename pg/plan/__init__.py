"""Plans: programs compiled for chips that are not here, and their needs."""
