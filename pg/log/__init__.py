"""What a run tells: metrics, progress, and pages to look at."""
