"""Tests in a whole virtual machine with systemd, snapd and AppArmor; they run only when asked: `tox -e machine`."""
