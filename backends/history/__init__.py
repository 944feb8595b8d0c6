"""What is kept on the disk from one start to the next: the only place that speaks SQL."""
