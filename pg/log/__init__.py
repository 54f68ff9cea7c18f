"""What a person looks at: numbers, progress, pictures, and the report."""
