"""What runs survive: crashes, damaged files, full disks, lost processes, long times."""
