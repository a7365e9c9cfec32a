"""The report: plain facts about a room, written as one HTML page that needs nothing else."""
