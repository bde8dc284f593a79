"""What a run will cost before anything runs: jobs, hours, disk, download."""
